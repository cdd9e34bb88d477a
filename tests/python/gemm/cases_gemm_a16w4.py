"""Problems, data and float64 reference of gemm_a16w4; most of it is in group_gemm.py."""

import group_gemm

CASES = group_gemm.problems(4)
reference = group_gemm.reference


def make(case, seed=0):
    """(x, (codes, scale, min), bias)"""
    return group_gemm.make(4, case, seed)
