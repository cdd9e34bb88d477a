#include "aiter/kvcache.h"

#include "python/tensor.h"

namespace aiter::python {
namespace {

void reshape_and_cache_flash(nb::handle key, nb::handle value, nb::handle key_cache,
                             nb::handle value_cache, nb::handle slot_mapping, nb::handle k_scale,
                             nb::handle v_scale, nb::handle stream) {
  OpCall call("reshape_and_cache_flash", stream);
  const aiter_tensor* tkey = call.in("key", key);
  const aiter_tensor* tvalue = call.in("value", value);
  const aiter_tensor* tkey_cache = call.inout("key_cache", key_cache);
  const aiter_tensor* tvalue_cache = call.inout("value_cache", value_cache);
  const aiter_tensor* tslots = call.in("slot_mapping", slot_mapping);
  const aiter_tensor* tk_scale = call.in("k_scale", k_scale);
  const aiter_tensor* tv_scale = call.in("v_scale", v_scale);
  aiter_reshape_and_cache_flash_opts opts = AITER_RESHAPE_AND_CACHE_FLASH_OPTS_INIT;
  opts.flags = call.flags();
  call.run([&] {
    return aiter_reshape_and_cache_flash(tkey, tvalue, tkey_cache, tvalue_cache, tslots, tk_scale,
                                         tv_scale, &opts, call.stream());
  });
}

}  // namespace

void bind_kvcache(nb::module_& m) {
  m.def("reshape_and_cache_flash", &reshape_and_cache_flash, "key"_a, "value"_a, "key_cache"_a,
        "value_cache"_a, "slot_mapping"_a, "k_scale"_a.none(), "v_scale"_a.none(),
        "stream"_a.none());
}

}  // namespace aiter::python
