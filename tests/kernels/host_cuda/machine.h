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
/// thread ended while others waited at a barrier, or where threads met at different ones.
bool run_block(unsigned threads, const std::function<void(unsigned)>& enter, const std::function<void()>& body);

/// __syncthreads, from within `body`; `line` tells barriers apart.
void wait_for_block(unsigned line);

const std::string& last_failure();

}  // namespace microtome::host_cuda
