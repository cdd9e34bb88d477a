# What is installed, by component:
#   library   the shared library, headers, CMake package, pkg-config file
#   namelink  libaiter.so, the symbolic link that `-laiter` finds
#   wheel     libaiter.so as a linker script, because a wheel cannot hold links; by request only
#   python    the Python module (src/python); the prefix is then the package folder `aiter`
include(CMakePackageConfigHelpers)

set(libdir ${CMAKE_INSTALL_LIBDIR})
install(TARGETS aiter EXPORT aiterTargets
        LIBRARY DESTINATION ${libdir} COMPONENT library NAMELINK_COMPONENT namelink)
install(DIRECTORY include/aiter DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT library
        FILES_MATCHING PATTERN *.h)
file(CONFIGURE OUTPUT wheel/libaiter.so CONTENT "INPUT(libaiter.so.${AITER_ABI_VERSION})\n")
install(FILES ${PROJECT_BINARY_DIR}/wheel/libaiter.so DESTINATION ${libdir} COMPONENT wheel
        EXCLUDE_FROM_ALL)

install(EXPORT aiterTargets NAMESPACE aiter:: DESTINATION ${libdir}/cmake/aiter COMPONENT library)
configure_package_config_file(cmake/aiterConfig.cmake.in aiterConfig.cmake
                              INSTALL_DESTINATION ${libdir}/cmake/aiter)
write_basic_package_version_file(aiterConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/aiterConfig.cmake ${PROJECT_BINARY_DIR}/aiterConfigVersion.cmake
        DESTINATION ${libdir}/cmake/aiter COMPONENT library)

file(RELATIVE_PATH pkgconfig_to_prefix /${libdir}/pkgconfig /)
configure_file(cmake/aiter.pc.in aiter.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/aiter.pc DESTINATION ${libdir}/pkgconfig COMPONENT library)
