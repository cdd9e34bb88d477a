#include "dispatch/dispatch.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/status.h"
#include "launch/device.h"
#include "simd/isa.h"

namespace aiter {

// Every operator of this build; the list is generated from the aiter_op() lines of src/ops.
#define AITER_OP_ENTRY(op) extern const OpInfo op##_op;
#include "aiter_ops.inc"
#undef AITER_OP_ENTRY

namespace {

const OpInfo* const kOps[] = {
#define AITER_OP_ENTRY(op) &op##_op,
#include "aiter_ops.inc"
#undef AITER_OP_ENTRY
};

thread_local std::string explanation;

// "op:row" pairs. Replaced as a whole, so that readers need no lock.
struct Force {
  std::vector<std::pair<std::string, std::string>> rows;
};

std::shared_ptr<const Force> parse_force(const char* text) {
  auto force = std::make_shared<Force>();
  std::string all = text ? text : "";
  for (size_t begin = 0; begin < all.size();) {
    size_t end = std::min(all.find(',', begin), all.size());
    std::string item = all.substr(begin, end - begin);
    begin = end + 1;
    if (item.empty()) continue;
    size_t colon = item.find(':');
    if (colon == std::string::npos)
      fail(AITER_INVALID_ARGUMENT, "force: got \"%s\", expected op:row[,op:row]", item.c_str());
    std::string op = item.substr(0, colon), row = item.substr(colon + 1);
    bool known = false;
    for (const OpInfo* info : kOps) {
      if (op != info->name) continue;
      for (int i = 0; info->row(i); ++i) known |= row == info->row(i)->name;
    }
    if (!known)
      fail(AITER_INVALID_ARGUMENT, "force: \"%s\" names no row; see aiter_dispatch_table()",
           item.c_str());
    force->rows.emplace_back(op, row);
  }
  return force->rows.empty() ? nullptr : force;
}

std::atomic<bool> any_force{false};
std::mutex force_mutex;
std::shared_ptr<const Force> current_force;  // guarded by force_mutex

void set_force(const char* text) {
  auto force = parse_force(text);
  std::lock_guard lock(force_mutex);
  current_force = force;
  any_force.store(force != nullptr, std::memory_order_release);
}

// The environment is read once, at the first selection. A mistake in it fails every call rather
// than being dropped.
void read_environment() {
  static const std::string error = [] {
    try {
      if (const char* text = std::getenv("AITER_FORCE")) set_force(text);
    } catch (const Error& e) {
      return std::string("AITER_FORCE: ") + e.what();
    }
    if (const char* text = std::getenv("AITER_NUM_THREADS"); text && *text) {
      char* end = nullptr;
      const long n = std::strtol(text, &end, 10);
      if (*end || n < 1 || n > 4096)
        return std::string("AITER_NUM_THREADS: got \"") + text + "\", expected 1 to 4096";
    }
    return std::string();
  }();
  if (!error.empty()) throw Error(AITER_INVALID_ARGUMENT, error);
}

std::string forced_row(const char* op) {
  if (!any_force.load(std::memory_order_acquire)) return {};
  std::lock_guard lock(force_mutex);
  if (current_force)
    for (const auto& [name, row] : current_force->rows)
      if (name == op) return row;
  return {};
}

bool log_dispatch() {
  static const bool on = [] {
    const char* text = std::getenv("AITER_LOG");
    return text && std::strstr(text, "dispatch");
  }();
  return on;
}

const char* target_name(const Machine& m) {
  switch (m.target) {
    case ANY_CPU:
      return "cpu";
    case GFX90A:
      return "gfx90a";
    case GFX942:
      return "gfx942";
    case GFX950:
      return "gfx950";
    case SM80:
      return "sm_80";
    case SM90:
      return "sm_90";
    default:
      return "unknown";
  }
}

std::string refusal(const RowInfo& row, const Machine& m) {
  if (!(row.targets & m.target))
    return std::string("is for ") + row.target_text + ", not " + target_name(m);
  return std::string("needs ") + row.condition;
}

}  // namespace

int select_row(const char* op, const RowInfo* (*row)(int), const Machine& machine,
               bool (*accepts)(const void*, int), const void* context, bool explain) {
  read_environment();
  const std::string forced = forced_row(op);
  const bool verbose = explain || log_dispatch();
  std::string refusals;
  int chosen = -1;
  for (int i = 0; const RowInfo* r = row(i); ++i) {
    if (!forced.empty() && forced != r->name) continue;
    if ((r->targets & machine.target) && accepts(context, i)) {
      chosen = i;
      break;
    }
    if (verbose || !forced.empty())
      refusals += std::string("\n  ") + r->name + ": refused, " + refusal(*r, machine);
  }
  if (chosen < 0) {
    if (refusals.empty())
      for (int i = 0; const RowInfo* r = row(i); ++i)
        refusals += std::string("\n  ") + r->name + ": refused, " + refusal(*r, machine);
    fail(AITER_UNSUPPORTED, "%s: no row accepts this problem on %s%s%s", op, target_name(machine),
         forced.empty() ? "" : " (a row is forced)", refusals.c_str());
  }
  if (verbose) {
    std::string text = std::string(op) + ": " + row(chosen)->name + " on " + target_name(machine);
    if (machine.target == ANY_CPU) text += std::string(" (") + isa_name(machine.isa) + ")";
    if (!forced.empty()) text += ", forced";
    text += refusals;
    if (log_dispatch()) std::fprintf(stderr, "aiter: %s\n", text.c_str());
    if (explain) explanation = std::move(text);
  }
  return chosen;
}

Machine machine_of(aiter_device device) {
  switch (device.type) {
    case AITER_CPU:
    case AITER_CUDA_HOST:
    case AITER_ROCM_HOST:
      return Machine{ANY_CPU, current_isa()};
    default:
      break;
  }
  const Device& gpu = device_of(device);
  if (!gpu.target)
    fail(AITER_NO_CODE_OBJECT,
         "%s is a %s; this library has kernels for gfx90a, gfx942, gfx950 and sm_80 or later",
         gpu.label.c_str(), gpu.arch.c_str());
  return Machine{gpu.target, Isa::kPortable};
}

}  // namespace aiter

extern "C" aiter_status aiter_set_force(const char* rows) {
  return aiter::entry("set_force", [&] {
    aiter::read_environment();
    aiter::set_force(rows);
  });
}

extern "C" const char* aiter_last_explanation(void) { return aiter::explanation.c_str(); }

extern "C" const char* aiter_dispatch_table(void) {
  static const std::string table = [] {
    std::string text;
    for (const aiter::OpInfo* op : aiter::kOps)
      for (int i = 0; const aiter::RowInfo* r = op->row(i); ++i)
        text += std::string(op->family) + "\t" + op->name + "\t" + r->name + "\t" + r->target_text +
                "\t" + r->condition + "\n";
    return text;
  }();
  return table.c_str();
}
