// Continues token ids greedily with a GGUF model, and prints the new ids on one line.
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "llama.h"

namespace {

constexpr char kUsage[] =
    "usage: engine MODEL.gguf [options] ID ...\n"
    "  ID ...              token ids of the prompt\n"
    "  --file FILE         read more of them from a file, separated by spaces, commas or lines\n"
    "  --max-tokens N      ids to generate (default 32)\n"
    "  --threads N         CPU threads (default: all CPUs)\n"
    "  --device cpu|hip:N|cuda:N  where to run (default cpu)\n"
    "  --activations 8|16  bits of the activations in products with quantized weights (default "
    "16)\n";

struct Arguments {
  std::string model;
  std::vector<int32_t> prompt;
  int max_tokens = 32, threads = 0, activations = 16;
  aiter_device device{AITER_CPU, 0};
};

int number(const std::string& text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw std::invalid_argument("'" + text + "' is no number");
  return value;
}

aiter_device device(const std::string& text) {
  const size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  const int id = colon == std::string::npos ? 0 : number(text.substr(colon + 1));
  if (kind == "cpu") return {AITER_CPU, 0};
  if (kind == "hip") return {AITER_ROCM, id};
  if (kind == "cuda") return {AITER_CUDA, id};
  throw std::invalid_argument("'" + text + "' is no device, expected cpu, hip:N or cuda:N");
}

void read_ids(const std::string& path, std::vector<int32_t>* ids) {
  std::ifstream stream(path);
  if (!stream) throw std::runtime_error(path + ": cannot be read");
  std::string text{std::istreambuf_iterator<char>(stream), {}};
  for (char& c : text)
    if (c == ',') c = ' ';
  for (size_t at = 0; (at = text.find_first_not_of(" \t\r\n", at)) != std::string::npos;) {
    const size_t end = std::min(text.find_first_of(" \t\r\n", at), text.size());
    ids->push_back(number(text.substr(at, end - at)));
    at = end;
  }
}

Arguments parse(int argc, char** argv) {
  Arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    auto value = [&]() -> std::string {
      if (++i == argc) throw std::invalid_argument(arg + " needs a value");
      return argv[i];
    };
    if (arg == "--file") {
      read_ids(value(), &a.prompt);
    } else if (arg == "--device") {
      a.device = device(value());
    } else if (arg == "--max-tokens") {
      a.max_tokens = number(value());
    } else if (arg == "--threads") {
      a.threads = number(value());
    } else if (arg == "--activations") {
      a.activations = number(value());
    } else if (arg.rfind("--", 0) == 0) {
      throw std::invalid_argument("unknown option " + arg);
    } else if (a.model.empty()) {
      a.model = arg;
    } else {
      a.prompt.push_back(number(arg));
    }
  }
  if (a.model.empty() || a.prompt.empty()) throw std::invalid_argument(kUsage);
  if (a.max_tokens < 1) throw std::invalid_argument("--max-tokens must be at least 1");
  if (a.activations != 8 && a.activations != 16)
    throw std::invalid_argument("--activations must be 8 or 16");
  return a;
}

double seconds() {
  using clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(clock::now().time_since_epoch()).count();
}

void run(const Arguments& a) {
  engine::check(aiter_set_num_threads(a.threads));
  const engine::GgufFile file(a.model);
  engine::Options options;
  options.context = static_cast<int64_t>(a.prompt.size()) + a.max_tokens;
  options.activation =
      a.activations == 8 ? AITER_GEMM_ACTIVATION_8BIT : AITER_GEMM_ACTIVATION_16BIT;
  options.device = a.device;
  engine::Llama model(file, options);

  const double start = seconds();
  int32_t token = model.forward(a.prompt);
  const double prefilled = seconds();
  std::printf("%d", token);
  for (int i = 1; i < a.max_tokens; ++i) {
    token = model.forward({&token, 1});
    std::printf(" %d", token);
    std::fflush(stdout);
  }
  const double end = seconds();
  std::printf("\n");
  std::fprintf(stderr, "prefill: %zu tokens, %.1f tokens/s; decode: %d tokens, %.1f tokens/s\n",
               a.prompt.size(), a.prompt.size() / (prefilled - start), a.max_tokens - 1,
               a.max_tokens > 1 ? (a.max_tokens - 1) / (end - prefilled) : 0.0);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run(parse(argc, argv));
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "engine: %s\n", e.what());
    return 1;
  }
}
