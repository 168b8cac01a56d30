// Test only: runs the threads of one CUDA block by turns on one thread of the host. A thread runs until it ends or waits at a
// barrier, so that the order of threads decides what others see between barriers: a kernel that forgot one gives different
// results in the two orders. Most kernels' threads never wait and cost a function call each.
#pragma once

#include <functional>
#include <string>

namespace microtome::host_cuda {

enum class Order { ascending, descending };

/// Of the threads of every block from now on.
void set_order(Order order);

/// Makes each of `threads` the current one (`enter`) and runs it (`body`). False, with a reason in `last_failure`, where a
/// thread ended while others waited at a barrier, or where threads met at different ones; likewise within a warp.
bool run_block(unsigned threads, const std::function<void(unsigned)>& enter, const std::function<void()>& body);

/// __syncthreads, from within `body`; `line` tells barriers apart.
void wait_for_block(unsigned line);

inline constexpr unsigned lanes_a_warp = 32;

/// An instruction of a whole warp, from within `body`: when every lane has handed over its operands, the last to come does the
/// work for all. False of `run_block` where some lanes never come; `line` tells instructions apart.
void with_warp(void* mine, unsigned line, void (*work)(void* const* of_lanes));

const std::string& last_failure();

}  // namespace microtome::host_cuda
