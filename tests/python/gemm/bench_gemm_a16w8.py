"""Speed of gemm_a16w8 beside the machine's read rate: python tests/python/gemm/bench_gemm_a16w8.py"""

from group_gemm import bench_main

if __name__ == "__main__":
    bench_main(8)
