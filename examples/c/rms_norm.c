/* Normalize the rows of a matrix. A DLTensor* may be passed where an aiter_tensor* is. */
#include <aiter/aiter.h>
#include <stdio.h>

int main(void) {
  float x[2][4] = {{3, 4, 0, 0}, {1, 1, 1, 1}};
  float y[2][4];
  int64_t shape[2] = {2, 4};
  const aiter_dtype f32 = {AITER_CODE_FLOAT, 32, 1};
  const aiter_tensor tx = {x, {AITER_CPU, 0}, 2, f32, shape, NULL, 0};
  const aiter_tensor ty = {y, {AITER_CPU, 0}, 2, f32, shape, NULL, 0};

  if (aiter_rmsnorm(&tx, NULL, &ty, NULL, NULL) != AITER_OK) {
    fprintf(stderr, "%s\n", aiter_last_error());
    return 1;
  }
  for (int row = 0; row < 2; ++row)
    printf("%.2f %.2f %.2f %.2f\n", y[row][0], y[row][1], y[row][2], y[row][3]);
  return 0;
}
