#include "ops/kvcache/copy_blocks/copy_blocks_args.h"
#include "simd/cache.h"
#include "simd/parallel.h"
#include "simd/stream.h"

namespace aiter::AITER_ISA {
namespace {

constexpr int64_t kPiece = 65536;  // bytes that a thread copies at a time

void copy_piece(const CopyBlocksArgs::Cache& c, int64_t from_page, int64_t to_page, int64_t begin,
                int64_t bytes, LineStream* stream) {
  const char* from = static_cast<const char*>(c.from) + from_page * c.from_page + begin;
  char* to = static_cast<char*>(c.to) + to_page * c.to_page + begin;
  if (from == to) return;
  if (stream)
    stream->copy(to, from, bytes);
  else
    memcpy(to, from, bytes);
}

}  // namespace

void copy_blocks_cpu_simd(const CopyBlocksArgs& a) {
  for (int i = 0; i < a.cache_count; ++i) {
    const CopyBlocksArgs::Cache& c = a.caches[i];
    const int64_t pieces = (c.page + kPiece - 1) / kPiece;
    const bool streamed = worth_streaming(c.to, a.pairs * c.page, 1);
    parallel_for(a.pairs * pieces, 1 + kPiece / (c.page + 1), [&](int64_t begin, int64_t end) {
      LineStream stream;
      for (int64_t p = begin; p < end; ++p) {
        const int64_t pair = p / pieces, at = p % pieces * kPiece;
        copy_piece(c, a.page_of(pair, 0), a.page_of(pair, 1), at,
                   c.page - at < kPiece ? c.page - at : kPiece, streamed ? &stream : nullptr);
      }
    });
  }
}

void copy_blocks_cpu_ref(const CopyBlocksArgs& a) {
  for (int i = 0; i < a.cache_count; ++i)
    for (int64_t pair = 0; pair < a.pairs; ++pair)
      copy_piece(a.caches[i], a.page_of(pair, 0), a.page_of(pair, 1), 0, a.caches[i].page, nullptr);
}

}  // namespace aiter::AITER_ISA
