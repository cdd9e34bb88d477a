#include "run/module.h"

#include <sys/mman.h>

#include <cstring>

#include "isa/disasm.h"
#include "run/launch.h"
#include "run/memory.h"
#include "run/msgpack.h"

namespace gfxemu {
namespace {

struct Ehdr {
  uint8_t ident[16];
  uint16_t type, machine;
  uint32_t version;
  uint64_t entry, phoff, shoff;
  uint32_t flags;
  uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
struct Phdr {
  uint32_t type, flags;
  uint64_t offset, vaddr, paddr, filesz, memsz, align;
};
struct Shdr {
  uint32_t name, type;
  uint64_t flags, addr, offset, size;
  uint32_t link, info;
  uint64_t addralign, entsize;
};
struct Sym {
  uint32_t name;
  uint8_t info, other;
  uint16_t shndx;
  uint64_t value, size;
};
struct Rela {
  uint64_t offset, info;
  int64_t addend;
};

// An offload bundle holds code objects for several targets; takes the one of the arch.
bool unbundle(const uint8_t*& p, size_t& size, Arch arch, std::string* error) {
  static const char magic[] = "__CLANG_OFFLOAD_BUNDLE__";
  if (size < 32 || memcmp(p, magic, 24)) return true;
  uint64_t n;
  memcpy(&n, p + 24, 8);
  size_t at = 32;
  std::string have;
  for (uint64_t i = 0; i < n; ++i) {
    uint64_t f[3];
    if (at + 24 > size) break;
    memcpy(f, p + at, 24);
    at += 24;
    if (f[2] > size - at || f[0] > size || f[1] > size - f[0]) break;
    std::string id(reinterpret_cast<const char*>(p) + at, f[2]);
    at += f[2];
    if (id.find(arch_name(arch)) != std::string::npos) {
      p += f[0];
      size = f[1];
      return true;
    }
    have += have.empty() ? id : ", " + id;
  }
  *error = std::string("the bundle has no code object for ") + arch_name(arch) + "; it has " + have;
  return false;
}

Arch machine(uint32_t flags) {
  switch (flags & 0xff) {
    case 0x3f:
      return GFX90A;
    case 0x4c:
      return GFX942;
    case 0x4f:
      return GFX950;
    default:
      return static_cast<Arch>(0);
  }
}

void read_metadata(const msgpack::Value& doc, std::map<std::string, Kernel>* out) {
  const msgpack::Value* list = doc.get("amdhsa.kernels");
  if (!list) return;
  for (const msgpack::Value& k : list->a) {
    Kernel x;
    x.name = k.string(".name");
    std::string symbol = k.string(".symbol");
    x.has_metadata = true;
    x.max_threads = static_cast<int>(k.integer(".max_flat_workgroup_size", 1024));
    x.vgpr_spills = static_cast<int>(k.integer(".vgpr_spill_count", 0));
    x.sgpr_spills = static_cast<int>(k.integer(".sgpr_spill_count", 0));
    x.vgpr_count = static_cast<int>(k.integer(".vgpr_count", 0));
    x.agpr_count = static_cast<int>(k.integer(".agpr_count", 0));
    x.sgpr_count = static_cast<int>(k.integer(".sgpr_count", 0));
    x.wavefront = static_cast<int>(k.integer(".wavefront_size", 64));
    x.dynamic_stack = k.integer(".uses_dynamic_stack", 0) != 0;
    x.kernarg = static_cast<uint32_t>(k.integer(".kernarg_segment_size", 0));
    if (const msgpack::Value* args = k.get(".args"))
      for (const msgpack::Value& a : args->a) {
        KernelArg arg;
        arg.offset = static_cast<uint32_t>(a.integer(".offset", 0));
        arg.size = static_cast<uint32_t>(a.integer(".size", 0));
        arg.kind = a.string(".value_kind");
        arg.name = a.string(".name");
        x.args.push_back(arg);
      }
    if (symbol.size() > 3 && symbol.substr(symbol.size() - 3) == ".kd")
      symbol.resize(symbol.size() - 3);
    (*out)[symbol.empty() ? x.name : symbol] = x;
  }
}

}  // namespace

Code::~Code() {
  if (slots) munmap(slots, (count + 1) * sizeof(Inst));
}

Module::~Module() {
  if (image_) Memory::get().release(image_);
}

std::shared_ptr<Module> Module::load(const void* image, size_t size, Arch arch, bool relocate,
                                     std::string* error, int device) {
  const uint8_t* p = static_cast<const uint8_t*>(image);
  auto fail = [&](const std::string& why) {
    *error = why;
    return std::shared_ptr<Module>();
  };
  if (!unbundle(p, size, arch, error)) return nullptr;
  Ehdr e;
  if (size < sizeof(e) || memcmp(p, "\177ELF\2\1", 6)) return fail("not a 64-bit ELF code object");
  memcpy(&e, p, sizeof(e));
  if (e.machine != 224) return fail("the ELF file is not for AMDGPU");
  Arch found = machine(e.flags);
  if (!found)
    return fail(
        "the code object is for a processor other than gfx90a, gfx942 and gfx950 (e_flags " +
        std::to_string(e.flags) + ")");
  if (found != arch && relocate)
    return fail(std::string("the code object is for ") + arch_name(found) +
                ", the emulated device is " + arch_name(arch));
  if (e.phentsize != sizeof(Phdr) || e.shentsize != sizeof(Shdr))
    return fail("malformed ELF headers");
  // hipModuleLoadData gives no size: then trust the header tables.
  auto inside = [&](uint64_t off, uint64_t n) { return off <= size && n <= size - off; };
  if (!inside(e.phoff, e.phnum * sizeof(Phdr)) || !inside(e.shoff, e.shnum * sizeof(Shdr)))
    return fail("truncated ELF file");
  const Phdr* ph = reinterpret_cast<const Phdr*>(p + e.phoff);
  const Shdr* sh = reinterpret_cast<const Shdr*>(p + e.shoff);
  uint64_t top = 0;
  for (int i = 0; i < e.phnum; ++i)
    if (ph[i].type == 1) {
      if (!inside(ph[i].offset, ph[i].filesz) || ph[i].memsz > (1ull << 32))
        return fail("truncated ELF segment");
      top = std::max(top, ph[i].vaddr + ph[i].memsz);
    }
  if (!top || top > (1ull << 32))
    return fail("the ELF file has no loadable segment (an object file must be linked first)");
  std::shared_ptr<Module> m(new Module);
  m->image_ = Memory::get().allocate(top, device);
  if (!m->image_) return fail("out of device memory");
  uint64_t base = m->image_;
  Code& code = m->code_;
  code.arch = found;
  for (int i = 0; i < e.phnum; ++i) {
    if (ph[i].type != 1) continue;
    memcpy(reinterpret_cast<void*>(base + ph[i].vaddr), p + ph[i].offset, ph[i].filesz);
    if (ph[i].flags & 1) {
      code.address = base + ph[i].vaddr;
      code.count = static_cast<uint32_t>(ph[i].memsz / 4);
    }
  }
  if (!code.count) return fail("the code object has no executable segment");
  code.words = reinterpret_cast<const uint32_t*>(code.address);
  void* slots = mmap(nullptr, (code.count + 1) * sizeof(Inst), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (slots == MAP_FAILED) return fail("out of memory");
  code.slots = static_cast<Inst*>(slots);
  code.handlers = host_handlers();

  std::map<std::string, Kernel> meta;
  for (int i = 0; i < e.phnum; ++i) {
    if (ph[i].type != 4 || !inside(ph[i].offset, ph[i].filesz)) continue;
    const uint8_t *n = p + ph[i].offset, *end = n + ph[i].filesz;
    while (end - n >= 12) {
      uint32_t f[3];
      memcpy(f, n, 12);
      uint64_t name = (f[0] + 3) / 4 * 4, desc = (f[1] + 3) / 4 * 4;
      if (name + desc > static_cast<uint64_t>(end - n - 12)) break;
      msgpack::Value doc;
      if (f[2] == 32 && f[0] >= 6 && !memcmp(n + 12, "AMDGPU", 6)) {
        if (!msgpack::parse(n + 12 + name, f[1], &doc)) return fail("malformed metadata note");
        read_metadata(doc, &meta);
      }
      n += 12 + name + desc;
    }
  }

  for (int i = 0; i < e.shnum; ++i) {
    if (!inside(sh[i].offset, sh[i].type == 8 ? 0 : sh[i].size))
      return fail("truncated ELF section");
    if (sh[i].type == 11 && sh[i].link < e.shnum) {  // dynamic symbols
      const Sym* syms = reinterpret_cast<const Sym*>(p + sh[i].offset);
      const Shdr& strs = sh[sh[i].link];
      if (!inside(strs.offset, strs.size)) return fail("truncated ELF strings");
      for (uint64_t s = 1; s < sh[i].size / sizeof(Sym); ++s) {
        if (syms[s].name >= strs.size || !syms[s].shndx) continue;
        const char* text = reinterpret_cast<const char*>(p + strs.offset + syms[s].name);
        std::string name(text, strnlen(text, strs.size - syms[s].name));
        if (name.size() > 3 && name.substr(name.size() - 3) == ".kd") {
          name.resize(name.size() - 3);
          if (syms[s].value + 64 > top) return fail("kernel descriptor outside the image");
          Kernel k = meta.count(name) ? meta[name] : Kernel();
          k.name = name;
          k.descriptor = base + syms[s].value;
          const uint8_t* d = reinterpret_cast<const uint8_t*>(k.descriptor);
          int64_t entry;
          uint32_t kernarg;
          memcpy(&k.lds, d, 4);
          memcpy(&k.scratch, d + 4, 4);
          memcpy(&kernarg, d + 8, 4);
          memcpy(&entry, d + 16, 8);
          memcpy(&k.rsrc3, d + 44, 4);
          memcpy(&k.rsrc1, d + 48, 4);
          memcpy(&k.rsrc2, d + 52, 4);
          memcpy(&k.properties, d + 56, 2);
          memcpy(&k.preload, d + 58, 2);
          k.kernarg = std::max(k.kernarg, kernarg);
          k.entry = k.descriptor + static_cast<uint64_t>(entry);
          k.vgprs = static_cast<int>((k.rsrc1 & 63) + 1) * 8;
          k.accum_offset = static_cast<int>((k.rsrc3 & 63) + 1) * 4;
          k.agprs = std::max(0, k.vgprs - k.accum_offset);
          if (k.properties >> 11 & 1) k.dynamic_stack = true;
          if (k.entry < code.address || k.entry >= code.address + 4ull * code.count || k.entry % 4)
            return fail("kernel " + name + " starts outside the code");
          m->kernels_.push_back(k);
        } else if ((syms[s].info & 15) == 1) {
          m->objects_[name] = {base + syms[s].value, syms[s].size};
        }
      }
    }
    if (sh[i].type == 4 && relocate) {
      const Rela* r = reinterpret_cast<const Rela*>(p + sh[i].offset);
      const Sym* syms = nullptr;
      if (sh[i].link && sh[i].link < e.shnum)
        syms = reinterpret_cast<const Sym*>(p + sh[sh[i].link].offset);
      for (uint64_t n = 0; n < sh[i].size / sizeof(Rela); ++n) {
        uint32_t type = static_cast<uint32_t>(r[n].info),
                 sym = static_cast<uint32_t>(r[n].info >> 32);
        uint64_t value;
        if (type == 13)
          value = base + static_cast<uint64_t>(r[n].addend);  // RELATIVE64
        else if (type == 3 && syms && syms[sym].shndx)
          value = base + syms[sym].value + static_cast<uint64_t>(r[n].addend);  // ABS64
        else
          return fail("relocation type " + std::to_string(type) + " is not supported");
        if (r[n].offset + 8 > top) return fail("relocation outside the image");
        memcpy(reinterpret_cast<void*>(base + r[n].offset), &value, 8);
      }
    }
  }
  return m;
}

const Kernel* Module::kernel(const std::string& name) const {
  for (const Kernel& k : kernels_)
    if (k.name == name) return &k;
  return nullptr;
}

bool Module::symbol(const std::string& name, uint64_t* address, uint64_t* size) const {
  auto it = objects_.find(name);
  if (it == objects_.end()) return false;
  *address = it->second.first;
  *size = it->second.second;
  return true;
}

namespace {
void bad_instruction(Wave& w, const Inst& in) {
  Code& code = w.launch->module->code();
  size_t i = static_cast<size_t>(&in - code.slots);
  Inst scratch;
  const char* why = "the end of the code was passed";
  if (i < code.count)
    decode(code.arch, code.words + i, static_cast<int>(code.count - i), scratch, &why);
  w.pc = &in;
  fault(w, in, "cannot decode: %s", why ? why : "unknown");
}
void unimplemented(Wave& w, const Inst& in) { fault(w, in, "%s is not implemented", in.row->name); }
void clamp_error(Wave& w, const Inst& in) {
  fault(w, in, "the clamp bit of %s is not implemented", in.row->name);
}
void jump_outside(Wave& w, const Inst& in) {
  fault(w, in, "branch target outside the code object");
}
}  // namespace

void decode_slot(Wave& w, const Inst& in) {
  Code& code = w.launch->module->code();
  std::lock_guard lock(code.mutex);
  w.pc = &in;
  Inst& slot = const_cast<Inst&>(in);
  if (slot.fn) return;
  size_t i = static_cast<size_t>(&in - code.slots);
  Inst d;
  const char* why = nullptr;
  int n = i < code.count
              ? decode(code.arch, code.words + i, static_cast<int>(code.count - i), d, &why)
              : 0;
  Handler fn = nullptr;
  if (!n) {
    d = Inst{};
    d.size = 0;
    fn = bad_instruction;
  } else {
    fn = code.handlers->of[static_cast<int>(d.row->format)][d.row->index];
    Format f = d.row->format;
    if (d.clamp && (f == Format::VOP1 || f == Format::VOP2 || f == Format::VOP3) &&
        !is_float(d.row->dst) && !(d.row->flags & OPSEL)) {
      fn = code.handlers->clamped(d.row->name);
      if (!fn) fn = clamp_error;
    }
    if (!fn) fn = unimplemented;
    if (d.row->flags & BRANCH && (f == Format::SOPP || f == Format::SOPK)) {
      int64_t target = static_cast<int64_t>(i) + 1 + d.offset;
      if (target < 0 || target >= code.count) fn = jump_outside;
    }
  }
  d.fn = nullptr;
  slot = d;
  __atomic_store_n(&slot.fn, fn, __ATOMIC_RELEASE);
}

}  // namespace gfxemu
