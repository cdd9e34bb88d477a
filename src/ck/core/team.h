// Blocks that work together and reach each other's shared memory: a cluster of sm_90 (Grid::team).
// On other architectures a team is one block.
#pragma once

#include "ck/core/reduce.h"

namespace aiter {

constexpr int kMaxTeam = 8;

struct Team {
  int rank, size;

  // That of this block. All its blocks have begun, or, if they shall not `meet` here, will have after the
  // first barrier.
  AITER_DEVICE static Team own(bool meet = true) {
#if !defined(AITER_AMD) && __CUDA_ARCH__ >= 900
    uint32_t rank, size;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    const Team team{static_cast<int>(rank), static_cast<int>(size)};
    if (meet && size > 1) team.barrier();
    return team;
#else
    return alone();
#endif
  }
  AITER_DEVICE static Team alone() { return {0, 1}; }
  AITER_DEVICE bool leads() const { return rank == 0; }

  // A team takes the rows first_row(), first_row() + row_step(), ...
  AITER_DEVICE int64_t first_row() const { return block_index_x() / size; }
  AITER_DEVICE int64_t row_step() const { return grid_blocks() / size; }

  // Waits for all threads of all blocks; what they wrote is seen after it.
  AITER_DEVICE void barrier() const {
#if !defined(AITER_AMD) && __CUDA_ARCH__ >= 900
    if (size > 1) {
      // One wave makes what all threads of its block have written seen by the others: as a release of
      // every thread, it would be a fence of each.
      aiter::barrier();
      if (thread_index() < kWave) asm volatile("fence.acq_rel.cluster;" ::: "memory");
      asm volatile(
          "barrier.cluster.arrive.relaxed.aligned;\n\tbarrier.cluster.wait.acquire.aligned;" ::
              : "memory");
      return;
    }
#endif
    aiter::barrier();
  }

  // What `shared`, a variable of this block's shared memory, is in that of another one.
  template <class T>
  AITER_DEVICE T* of_rank(T* shared, int of) const {
#if !defined(AITER_AMD) && __CUDA_ARCH__ >= 900
    uint64_t address;
    asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(shared), "r"(of));
    return reinterpret_cast<T*>(address);
#else
    return shared;
#endif
  }

  // *to, in any of the blocks, += value; returns what it was.
  AITER_DEVICE uint32_t fetch_add(uint32_t* to, uint32_t value) const {
    uint32_t before;
#if defined(AITER_AMD)
    before = __hip_atomic_fetch_add(to, value, __ATOMIC_RELAXED, __HIP_MEMORY_SCOPE_WORKGROUP);
#else
    asm volatile("atom.add.u32 %0, [%1], %2;" : "=r"(before) : "l"(to), "r"(value) : "memory");
#endif
    return before;
  }

  // slots[i] = the value of the block of rank i, in all blocks. All threads of a block have the same
  // value. `slots` may be given again only after another barrier of the team.
  template <class T>
  AITER_DEVICE void gather(T value, T (&slots)[kMaxTeam]) const {
    if (thread_index() < size) *of_rank(slots + rank, thread_index()) = value;
    barrier();
  }

  // Every thread gets the result over the blocks.
  template <class Op, class T>
  AITER_DEVICE T reduce(T value, T (&slots)[kMaxTeam]) const {
    if (size == 1) return value;
    gather(value, slots);
    value = slots[0];
    for (int i = 1; i < size; ++i) value = Op::combine(value, slots[i]);
    barrier();
    return value;
  }
};

}  // namespace aiter
