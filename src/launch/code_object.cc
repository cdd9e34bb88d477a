#include "launch/code_object.h"

#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>

#include "core/status.h"

namespace aiter {
namespace {

constexpr int kMachineAmdgpu = 224, kMachineCuda = 190;

[[noreturn]] void malformed(const char* what) {
  fail(AITER_INTERNAL, "code object: malformed %s", what);
}

template <class T>
T read(std::string_view bytes, size_t offset) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T))
    malformed("file: it is cut short");
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

std::string_view part(std::string_view bytes, size_t offset, size_t size) {
  if (offset > bytes.size() || bytes.size() - offset < size) malformed("file: it is cut short");
  return bytes.substr(offset, size);
}

// The part of MessagePack that code object metadata uses. A visitor gets each scalar with the path
// to it: map keys, "[]" for an array.
class MessagePack {
 public:
  using Visit = std::function<void(const std::string& path, int64_t number, std::string_view text)>;
  using Begin = std::function<void(const std::string& path)>;  // a new array element
  MessagePack(std::string_view bytes, Begin begin, Visit visit)
      : bytes_(bytes), begin_(std::move(begin)), visit_(std::move(visit)) {}
  void run() { value("", 0); }

 private:
  uint64_t number(int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; ++i) v = v << 8 | read<uint8_t>(bytes_, at_++);
    return v;
  }
  std::string_view text(size_t n) {
    std::string_view t = part(bytes_, at_, n);
    at_ += n;
    return t;
  }
  std::string key() {
    const auto type = static_cast<uint8_t>(number(1));
    if (type >= 0xa0 && type <= 0xbf) return std::string(text(type & 31));
    if (type == 0xd9) return std::string(text(number(1)));
    if (type == 0xda) return std::string(text(number(2)));
    malformed("metadata key");
  }
  void map(const std::string& path, uint64_t n, int depth) {
    for (uint64_t i = 0; i < n; ++i) {
      const std::string k = key();
      value(path + "/" + k, depth + 1);
    }
  }
  void array(const std::string& path, uint64_t n, int depth) {
    for (uint64_t i = 0; i < n; ++i) {
      begin_(path + "[]");
      value(path + "[]", depth + 1);
    }
  }
  void value(const std::string& path, int depth) {
    if (depth > 16) malformed("metadata: too deep");
    const auto type = static_cast<uint8_t>(number(1));
    if (type <= 0x7f) return visit_(path, type, {});
    if (type <= 0x8f) return map(path, type & 15, depth);
    if (type <= 0x9f) return array(path, type & 15, depth);
    if (type <= 0xbf) return visit_(path, 0, text(type & 31));
    if (type >= 0xe0) return visit_(path, static_cast<int8_t>(type), {});
    switch (type) {
      case 0xc0:
        return;
      case 0xc2:
      case 0xc3:
        return visit_(path, type == 0xc3, {});
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
        return visit_(path, static_cast<int64_t>(number(1 << (type - 0xcc))), {});
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return visit_(path, static_cast<int64_t>(number(1 << (type - 0xd0))), {});
      case 0xd9:
        return visit_(path, 0, text(number(1)));
      case 0xda:
        return visit_(path, 0, text(number(2)));
      case 0xdb:
        return visit_(path, 0, text(number(4)));
      case 0xdc:
        return array(path, number(2), depth);
      case 0xdd:
        return array(path, number(4), depth);
      case 0xde:
        return map(path, number(2), depth);
      case 0xdf:
        return map(path, number(4), depth);
      default:
        malformed("metadata");
    }
  }

  std::string_view bytes_;
  size_t at_ = 0;
  Begin begin_;
  Visit visit_;
};

void read_amd_metadata(std::string_view metadata, CodeObject* object) {
  struct Argument {
    int64_t offset = 0, size = 0;
    bool explicit_one = false;
  } argument;
  auto finish_argument = [&] {
    if (argument.explicit_one && !object->kernels.empty()) {
      int& bytes = object->kernels.back().args_bytes;
      bytes = std::max(bytes, static_cast<int>(argument.offset + argument.size));
    }
    argument = {};
  };
  const std::string kernel = "/amdhsa.kernels[]";
  MessagePack(
      metadata,
      [&](const std::string& path) {
        finish_argument();
        if (path == kernel) object->kernels.emplace_back();
      },
      [&](const std::string& path, int64_t number, std::string_view text) {
        if (path == "/amdhsa.target") {
          const size_t dashes = text.rfind("--");
          object->arch = text.substr(dashes == text.npos ? 0 : dashes + 2);
        }
        if (path.compare(0, kernel.size(), kernel) != 0 || object->kernels.empty()) return;
        KernelInfo& k = object->kernels.back();
        const std::string field = path.substr(kernel.size());
        const int n = static_cast<int>(number);
        if (field == "/.name")
          k.symbol = text;
        else if (field == "/.group_segment_fixed_size")
          k.shared_bytes = n;
        else if (field == "/.private_segment_fixed_size")
          k.scratch_bytes = n;
        else if (field == "/.vgpr_count")
          k.registers = n;  // AGPRs included since gfx90a
        else if (field == "/.sgpr_count")
          k.scalars = n;
        else if (field == "/.vgpr_spill_count" || field == "/.sgpr_spill_count")
          k.spills += n;
        else if (field == "/.max_flat_workgroup_size")
          k.max_block = n;
        else if (field == "/.args[]/.offset")
          argument.offset = number;
        else if (field == "/.args[]/.size")
          argument.size = number;
        else if (field == "/.args[]/.value_kind")
          argument.explicit_one = text.substr(0, 7) != "hidden_";
        // An argument's fields come in any order, but before the next element begins and before
        // the kernel's own fields that sort behind ".args"; the last one ends with them.
        if (field.compare(0, 7, "/.args[") != 0) finish_argument();
      })
      .run();
}

struct Section {
  std::string_view name, bytes;
  uint32_t type, info;
};

std::vector<Section> sections(std::string_view file) {
  const auto header = read<Elf64_Ehdr>(file, 0);
  std::vector<Section> all;
  std::vector<Elf64_Shdr> headers;
  for (int i = 0; i < header.e_shnum; ++i)
    headers.push_back(read<Elf64_Shdr>(file, header.e_shoff + i * sizeof(Elf64_Shdr)));
  if (header.e_shstrndx >= headers.size()) malformed("section table");
  const Elf64_Shdr& names_header = headers[header.e_shstrndx];
  const std::string_view names = part(file, names_header.sh_offset, names_header.sh_size);
  for (const Elf64_Shdr& h : headers) {
    if (h.sh_name >= names.size()) malformed("section name");
    const std::string_view rest = names.substr(h.sh_name);
    all.push_back(
        {rest.substr(0, rest.find('\0')),
         h.sh_type == SHT_NOBITS ? std::string_view() : part(file, h.sh_offset, h.sh_size),
         h.sh_type, h.sh_info});
  }
  return all;
}

void read_amd(std::string_view file, CodeObject* object) {
  constexpr uint32_t kMetadata = 32;
  for (const Section& s : sections(file)) {
    if (s.type != SHT_NOTE) continue;
    for (size_t at = 0; at + sizeof(Elf64_Nhdr) <= s.bytes.size();) {
      const auto note = read<Elf64_Nhdr>(s.bytes, at);
      at += sizeof(note);
      const size_t name_bytes = (note.n_namesz + size_t{3}) & ~size_t{3};
      const std::string_view name = part(s.bytes, at, note.n_namesz);
      const std::string_view body = part(s.bytes, at + name_bytes, note.n_descsz);
      at += name_bytes + ((note.n_descsz + size_t{3}) & ~size_t{3});
      if (note.n_type == kMetadata && name.substr(0, 6) == "AMDGPU")
        read_amd_metadata(body, object);
    }
  }
}

void read_cubin(std::string_view file, CodeObject* object) {
  constexpr std::string_view kInfo = ".nv.info.", kText = ".text.", kShared = ".nv.shared.",
                             kLocal = ".nv.local.";
  constexpr uint8_t kSizedValue = 4, kMaxThreads = 0x05, kParameterBytes = 0x19;
  auto kernel = [&](std::string_view symbol) -> KernelInfo& {
    for (KernelInfo& k : object->kernels)
      if (k.symbol == symbol) return k;
    object->kernels.emplace_back();
    object->kernels.back().symbol = symbol;
    return object->kernels.back();
  };
  const auto header = read<Elf64_Ehdr>(file, 0);
  for (int i = 0; i < header.e_shnum; ++i) {
    const Section s = sections(file)[i];
    auto tail = [&](std::string_view prefix) {
      return s.name.substr(0, prefix.size()) == prefix ? s.name.substr(prefix.size())
                                                       : std::string_view();
    };
    if (auto symbol = tail(kInfo); !symbol.empty()) {
      for (size_t at = 0; at + 4 <= s.bytes.size();) {
        const auto format = read<uint8_t>(s.bytes, at), what = read<uint8_t>(s.bytes, at + 1);
        const auto value = read<uint16_t>(s.bytes, at + 2);
        if (what == kParameterBytes) kernel(symbol).args_bytes = value;
        if (what == kMaxThreads && format == kSizedValue) {
          kernel(symbol).max_block = 1;
          for (int d = 0; d < 3; ++d)
            kernel(symbol).max_block *= static_cast<int>(read<uint32_t>(s.bytes, at + 4 + 4 * d));
        }
        at += 4 + (format == kSizedValue ? value : 0);
      }
    } else if (auto symbol = tail(kText); !symbol.empty()) {
      kernel(symbol).registers = static_cast<int>(s.info >> 24);
      // Instructions have 16 bytes; the lowest 12 bits say which one it is.
      constexpr size_t kInstruction = 16;
      constexpr int kWait = 0x82e, kMask = 0xfff;
      for (size_t at = 0; at + kInstruction <= s.bytes.size(); at += kInstruction)
        if ((read<uint16_t>(s.bytes, at) & kMask) == kWait) kernel(symbol).waits = true;
    } else if (auto symbol = tail(kShared); !symbol.empty() && symbol != "reserved.0") {
      const auto h = read<Elf64_Shdr>(file, header.e_shoff + i * sizeof(Elf64_Shdr));
      kernel(symbol).shared_bytes = static_cast<int>(h.sh_size);
    } else if (auto symbol = tail(kLocal); !symbol.empty()) {
      const auto h = read<Elf64_Shdr>(file, header.e_shoff + i * sizeof(Elf64_Shdr));
      kernel(symbol).scratch_bytes = static_cast<int>(h.sh_size);
    }
  }
}

// The number after the first `label` in text, or 0.
int number_after(std::string_view text, std::string_view label) {
  const size_t at = text.find(label);
  return at == text.npos ? 0 : std::atoi(std::string(text.substr(at + label.size(), 12)).c_str());
}

void read_ptx(std::string_view text, CodeObject* object) {
  if (const size_t target = text.find(".target "); target != text.npos)
    object->arch = text.substr(target + 8, text.find_first_of(", \n", target + 8) - target - 8);
  constexpr std::string_view kEntry = ".entry ";
  for (size_t at = text.find(kEntry); at != text.npos; at = text.find(kEntry, at + 1)) {
    const std::string_view rest = text.substr(at + kEntry.size());
    const std::string_view parameters = rest.substr(0, rest.find(')'));
    const std::string_view head = rest.substr(0, rest.find('{'));
    KernelInfo k;
    k.symbol = rest.substr(0, rest.find_first_of("( \n"));
    k.args_bytes = number_after(parameters, "_param_0[");
    k.max_block = number_after(head, ".maxntid ");
    k.waits = rest.substr(0, rest.find(kEntry)).find("griddepcontrol.wait") != rest.npos;
    object->kernels.push_back(k);
  }
}

}  // namespace

const KernelInfo* CodeObject::find(std::string_view symbol) const {
  for (const KernelInfo& k : kernels)
    if (k.symbol == symbol) return &k;
  return nullptr;
}

CodeObject read_code_object(std::string_view bytes) {
  CodeObject object;
  if (bytes.substr(0, 4) == std::string_view("\177ELF", 4)) {
    const auto machine = read<Elf64_Ehdr>(bytes, 0).e_machine;
    if (machine == kMachineAmdgpu)
      read_amd(bytes, &object);
    else if (machine == kMachineCuda)
      read_cubin(bytes, &object);
    else
      fail(AITER_INTERNAL, "code object: an ELF file for machine %d", machine);
  } else if (bytes.find(".target ") != bytes.npos) {
    read_ptx(bytes, &object);
  } else {
    fail(AITER_INTERNAL, "code object: neither ELF nor PTX");
  }
  return object;
}

}  // namespace aiter
