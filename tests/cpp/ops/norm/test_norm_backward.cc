// norm_backward from C++: results, the workspace, refusals.
#include <cmath>
#include <vector>

#include "check.h"
#include "tensor.h"

using test::Tensor;

int main() {
  const std::vector<float> x{3, 4, 0, 0, 1, 1, 1, 1}, dy{1, 0, 0, 0, 1, 1, 1, 1}, w{2, 1, 1, 1};
  std::vector<float> dx(8, -1), dw(4, -1), db(4, -1);
  Tensor tx(x.data(), {2, 4}), tdy(dy.data(), {2, 4}), tw(w.data(), {4}), tdx(dx.data(), {2, 4});
  Tensor tdw(dw.data(), {4}), tdb(db.data(), {4});

  aiter_norm_backward_opts opts = AITER_NORM_BACKWARD_OPTS_INIT;
  opts.eps = 0;
  uint64_t bytes = 0;
  CHECK(aiter_norm_backward_workspace(tx, 1, &bytes) == AITER_OK);
  CHECK(bytes >= 4 * sizeof(float));
  std::vector<double> workspace(bytes / 8 + 3, 7.0);  // a canary at each end
  auto* scratch = reinterpret_cast<char*>(workspace.data()) +
                  (16 - reinterpret_cast<uintptr_t>(workspace.data()) % 16) % 16;
  opts.workspace = scratch;
  opts.workspace_bytes = bytes;
  const double canary = workspace.back();
  CHECK(aiter_norm_backward(tdy, tx, tw, nullptr, tdx, tdw, nullptr, &opts, nullptr) == AITER_OK);
  // Row 0: s = 2.5, n = (1.2, 1.6, 0, 0), g = (2, 0, 0, 0), mean(g n) = 0.6.
  CHECK(std::fabs(dx[0] - (2 - 1.2f * 0.6f) / 2.5f) < 1e-6f);
  CHECK(std::fabs(dx[1] - (0 - 1.6f * 0.6f) / 2.5f) < 1e-6f);
  // Row 1: n = 1 and g = (2, 1, 1, 1), mean(g n) = 1.25.
  CHECK(std::fabs(dx[4] - 0.75f) < 1e-6f && std::fabs(dx[5] + 0.25f) < 1e-6f);
  CHECK(std::fabs(dw[0] - 2.2f) < 1e-6f && std::fabs(dw[1] - 1) < 1e-6f);
  CHECK(workspace.back() == canary);

  // Without dw and db no workspace is needed.
  opts = AITER_NORM_BACKWARD_OPTS_INIT;
  opts.kind = AITER_NORM_LAYER;
  CHECK(aiter_norm_backward(tdy, tx, nullptr, tx, tdx, nullptr, nullptr, &opts, nullptr) ==
        AITER_OK);
  CHECK(std::fabs(dx[4] - 1) < 1e-3f);  // a constant gradient has no effect: dresidual alone

  // The gradient of a vector that was added to x: the sum of dx.
  std::vector<float> sum(4, -1);
  Tensor tsum(sum.data(), {4});
  CHECK(aiter_norm_backward_workspace(tx, 1, &bytes) == AITER_OK);
  std::vector<double> more(bytes / 8 + 2);
  opts.workspace = more.data();
  opts.workspace_bytes = bytes;
  opts.dx_bias = tsum;
  CHECK(aiter_norm_backward(tdy, tx, nullptr, tx, tdx, nullptr, nullptr, &opts, nullptr) ==
        AITER_OK);
  for (int i = 0; i < 4; ++i) CHECK(std::fabs(sum[i] - dx[i] - dx[4 + i]) < 1e-6f);
  opts.workspace = nullptr, opts.workspace_bytes = 0, opts.dx_bias = nullptr;

  dx.assign(8, -1);
  CHECK_FAILS(aiter_norm_backward(tdy, tx, tw, nullptr, tdx, tdw, tdb, &opts, nullptr),
              AITER_WORKSPACE_TOO_SMALL, "opts.workspace has 0 bytes");
  CHECK(aiter_norm_backward_workspace(tx, 2, &bytes) == AITER_OK);
  std::vector<double> both(bytes / 8 + 2);
  opts.workspace = both.data();
  opts.workspace_bytes = bytes - 1;
  CHECK_FAILS(aiter_norm_backward(tdy, tx, tw, nullptr, tdx, tdw, tdb, &opts, nullptr),
              AITER_WORKSPACE_TOO_SMALL, "norm_backward: opts.workspace has");
  opts.workspace = reinterpret_cast<char*>(both.data()) + 4;
  opts.workspace_bytes = bytes;
  CHECK_FAILS(aiter_norm_backward(tdy, tx, tw, nullptr, tdx, tdw, tdb, &opts, nullptr),
              AITER_WORKSPACE_TOO_SMALL, "at a multiple of 16");
  opts.kind = 2;
  CHECK_FAILS(aiter_norm_backward(tdy, tx, tw, nullptr, tdx, nullptr, nullptr, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "opts.kind is 2");
  opts.kind = AITER_NORM_LAYER;
  opts.gemma = 1;
  CHECK_FAILS(aiter_norm_backward(tdy, tx, tw, nullptr, tdx, nullptr, nullptr, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "opts.gemma is 1, expected 0");
  opts.kind = AITER_NORM_RMS;
  CHECK_FAILS(aiter_norm_backward(tdy, tx, tw, nullptr, tdx, nullptr, tdb, &opts, nullptr),
              AITER_INVALID_ARGUMENT, "db is given, expected NULL");
  CHECK_FAILS(aiter_norm_backward_workspace(tx, 4, &bytes), AITER_INVALID_ARGUMENT,
              "gradients is 4");
  CHECK(dx[0] == -1);
  return test::failures;
}
