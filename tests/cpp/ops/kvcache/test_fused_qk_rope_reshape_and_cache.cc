// fused_qk_rope_reshape_and_cache and fused_qk_rope_concat_and_cache_mla from C++: a quarter turn.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  std::vector<float> q{1, 2, 3, 4}, k{5, 6}, v{7, 8}, cos{1, 0}, sin{0, 1};
  std::vector<float> key_cache(8, -1), value_cache(8, -1), q_out(4, -1);
  std::vector<int64_t> slots{3}, positions{1};
  Tensor tq(q.data(), {1, 2, 2}), tk(k.data(), {1, 1, 2}), tv(v.data(), {1, 1, 2});
  Tensor tkc(key_cache.data(), {2, 2, 1, 2}), tvc(value_cache.data(), {2, 2, 1, 2});
  Tensor tcos(cos.data(), {2, 1}), tsin(sin.data(), {2, 1}), tq_out(q_out.data(), {1, 2, 2});
  Tensor tslots(slots.data(), {1}, test::kI64), tpositions(positions.data(), {1}, test::kI64);
  std::vector<float> key_out(2, -1), value_out(2, -1);
  Tensor tkey_out(key_out.data(), {1, 1, 2}), tvalue_out(value_out.data(), {1, 1, 2});
  CHECK(aiter_fused_qk_rope_reshape_and_cache(tq, tk, tv, tkc, tvc, tslots, nullptr, nullptr,
                                              nullptr, nullptr, tpositions, tcos, tsin, tq_out,
                                              tkey_out, tvalue_out, nullptr, nullptr) == AITER_OK);
  CHECK(q_out == std::vector<float>({-2, 1, -4, 3}));
  CHECK(key_cache[6] == -6 && key_cache[7] == 5 && key_cache[5] == -1);
  CHECK(value_cache[6] == 7 && value_cache[7] == 8);
  CHECK(key_out == std::vector<float>({-6, 5}) && value_out == v);

  // Normalized and not turned: (3, 4) has the mean square 12.5.
  aiter_fused_qk_rope_cache_opts norm = AITER_FUSED_QK_ROPE_CACHE_OPTS_INIT;
  norm.norm = 1, norm.eps = 0;
  std::vector<float> weight{2, 4};
  Tensor tweight(weight.data(), {2});
  CHECK(aiter_fused_qk_rope_reshape_and_cache(tq, tk, tv, tkc, tvc, tslots, nullptr, nullptr,
                                              tweight, nullptr, nullptr, nullptr, nullptr, tq_out,
                                              nullptr, nullptr, &norm, nullptr) == AITER_OK);
  CHECK(std::fabs(q_out[2] - 6 / std::sqrt(12.5f)) < 1e-6f);
  CHECK(std::fabs(q_out[3] - 16 / std::sqrt(12.5f)) < 1e-6f);
  CHECK(std::fabs(key_cache[6] - 5 / std::sqrt(30.5f)) < 1e-6f && value_cache[6] == 7);

  // MLA: one latent dim, two that turn.
  std::vector<float> q_nope{9}, kv_c{10}, rows(12, -1), queries(3, -1);
  Tensor tq_nope(q_nope.data(), {1, 1, 1}), tq_pe(q.data(), {1, 1, 2});
  Tensor tkv_c(kv_c.data(), {1, 1}), tk_pe(k.data(), {1, 2});
  Tensor tcache(rows.data(), {2, 2, 3}), tqueries(queries.data(), {1, 1, 3});
  CHECK(aiter_fused_qk_rope_concat_and_cache_mla(tq_nope, tq_pe, tkv_c, tk_pe, tcache, tslots,
                                                 nullptr, nullptr, tpositions, tcos, tsin, tqueries,
                                                 nullptr, nullptr) == AITER_OK);
  CHECK(queries == std::vector<float>({9, -2, 1}));
  CHECK(rows[9] == 10 && rows[10] == -6 && rows[11] == 5 && rows[8] == -1);
  aiter_fused_qk_rope_cache_opts opts = AITER_FUSED_QK_ROPE_CACHE_OPTS_INIT;
  opts.rope_first = 1;
  CHECK(aiter_fused_qk_rope_concat_and_cache_mla(tq_nope, tq_pe, tkv_c, tk_pe, tcache, tslots,
                                                 nullptr, nullptr, tpositions, tcos, tsin, tqueries,
                                                 &opts, nullptr) == AITER_OK);
  CHECK(queries == std::vector<float>({-2, 1, 9}) && rows[9] == -6 && rows[11] == 10);

  // Two parts of queries, a key in line 1 % 2 of ring 3: sums (1, 2) and (3, 4) turn a quarter.
  std::vector<float> parts{1, 0, 0, 4, 0, 2, 3, 0}, ring(16, -1), turned(4, -1), key_rows(2, -1);
  std::vector<int32_t> batches{1}, rings{0, 3};
  Tensor tparts(parts.data(), {2, 1, 2, 2}), tring(ring.data(), {4, 2, 2}), tkv(k.data(), {1, 2});
  Tensor tbatches(batches.data(), {1}, test::kI32), trings(rings.data(), {2}, test::kI32);
  Tensor tturned(turned.data(), {1, 2, 2}), tkey_rows(key_rows.data(), {1, 2});
  aiter_fused_qk_norm_rope_group_quant_opts window = AITER_FUSED_QK_NORM_ROPE_GROUP_QUANT_OPTS_INIT;
  window.norm = 0;
  CHECK(aiter_fused_qk_norm_rope_group_quant(tparts, tkv, nullptr, nullptr, tpositions, tcos, tsin,
                                             trings, tbatches, tturned, nullptr, nullptr, tkey_rows,
                                             nullptr, nullptr, tring, nullptr, nullptr, &window,
                                             nullptr) == AITER_OK);
  CHECK(turned == std::vector<float>({-2, 1, -4, 3}) && key_rows == std::vector<float>({-6, 5}));
  CHECK(ring[14] == -6 && ring[15] == 5 && ring[13] == -1);
  // Times the Hadamard matrix, as codes: (-6, 5) becomes (-1, -11) / sqrt(2).
  std::vector<int8_t> codes(2, -1);
  std::vector<float> scale(1, -1);
  Tensor tcodes(codes.data(), {1, 2}, test::kI8), tscale(scale.data(), {1, 1});
  window.hadamard = 1;
  CHECK(aiter_fused_qk_norm_rope_group_quant(nullptr, tkv, nullptr, nullptr, tpositions, tcos, tsin,
                                             nullptr, nullptr, nullptr, nullptr, nullptr, tcodes,
                                             tscale, nullptr, nullptr, nullptr, nullptr, &window,
                                             nullptr) == AITER_OK);
  CHECK(codes == std::vector<int8_t>({-12, -127}) && std::fabs(scale[0] - 0.061245f) < 1e-5f);
  // The compressor: of two lines of equal scores, one of a state, the mean (3, 4), times 1 / sqrt(12.5).
  std::vector<float> lines{2, 8}, scores{0, 0}, state{4, 0}, states_scores{1, 1}, ape{1, 1, 1, 1};
  std::vector<float> pages(4, -1);
  std::vector<int32_t> plan{0, 0, 3, 1}, state_slots{0}, tables{0};
  Tensor tlines(lines.data(), {1, 2}), tscores(scores.data(), {1, 2});
  Tensor tstate(state.data(), {1, 1, 2}), tstates_scores(states_scores.data(), {1, 1, 2});
  Tensor tape(ape.data(), {2, 2}), tpages(pages.data(), {1, 2, 2});
  Tensor tplan(plan.data(), {1, 4}, test::kI32), tstate_slots(state_slots.data(), {1}, test::kI32);
  Tensor ttables(tables.data(), {1, 1}, test::kI32);
  aiter_fused_compress_attn_opts pairs = AITER_FUSED_COMPRESS_ATTN_OPTS_INIT;
  pairs.ratio = 2, pairs.eps = 0;
  const auto compress = [&] {
    return aiter_fused_compress_attn(tlines, tscores, tstate, tstates_scores, tplan, tstate_slots,
                                     tape, nullptr, nullptr, nullptr, ttables, tpages, nullptr,
                                     nullptr, &pairs, nullptr);
  };
  CHECK(compress() == AITER_OK);
  CHECK(pages[0] == -1 && std::fabs(pages[2] - 3 / std::sqrt(12.5f)) < 1e-6f);
  CHECK(std::fabs(pages[3] - 4 / std::sqrt(12.5f)) < 1e-6f);
  plan[0] = 1;
  CHECK_FAILS(compress(), AITER_INVALID_ARGUMENT, "plan[0] has line 1");

  batches[0] = 2;
  CHECK_FAILS(aiter_fused_qk_norm_rope_group_quant(nullptr, tkv, nullptr, nullptr, tpositions, tcos,
                                                   tsin, trings, tbatches, nullptr, nullptr,
                                                   nullptr, nullptr, nullptr, nullptr, tring,
                                                   nullptr, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "batch_ids has");

  positions[0] = 2;
  CHECK_FAILS(aiter_fused_qk_rope_reshape_and_cache(tq, tk, tv, tkc, tvc, tslots, nullptr, nullptr,
                                                    nullptr, nullptr, tpositions, tcos, tsin,
                                                    tq_out, nullptr, nullptr, nullptr, nullptr),
              AITER_INVALID_ARGUMENT, "positions has");
  return test::failures;
}
