// The machine that plays CUDA finds the mistakes it is there to find.
#include "kernels/host_cuda/cuda_bf16.h"
#include "kernels/host_cuda/cuda_runtime.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace microtome::host_cuda {
namespace {

constexpr int threads = 96;

__global__ void sum_of_block(const int* x, int* sum) {
  __shared__ int values[threads];
  values[threadIdx.x] = x[blockIdx.x * threads + threadIdx.x];
  __syncthreads();
  if (threadIdx.x != 0) return;
  sum[blockIdx.x] = 0;
  for (const int value : values) sum[blockIdx.x] += value;
}

__global__ void reverse_without_barrier(int* x) {
  __shared__ int values[threads];
  values[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = values[threads - 1 - threadIdx.x];
}

__global__ void half_waits() {
  if (threadIdx.x < threads / 2) return;
  __syncthreads();
}

__global__ void two_barriers() {
  if (threadIdx.x < threads / 2) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void where_am_i(unsigned* index) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  index[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

__global__ void lanes_swapped(float* x, int mask) {
  x[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], mask);
}

__global__ void half_a_warp_swaps(float* x) {
  if (threadIdx.x % 32 < 16) x[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], 1);
}

__global__ void lanes_apart(float* x) {
  if (threadIdx.x % 2 == 0) {
    x[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], 1);
  } else {
    x[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], 1);
  }
}

cudaLaunchConfig_t config(dim3 grid, dim3 block) {
  cudaLaunchConfig_t result;
  result.gridDim = grid;
  result.blockDim = block;
  return result;
}

class MachineTest : public testing::TestWithParam<Order> {
 protected:
  void SetUp() override { set_order(GetParam()); }
  void TearDown() override { set_order(Order::ascending); }
};

TEST_P(MachineTest, ThreadsOfABlockMeetAtABarrier) {
  std::vector<int> x(3 * threads, 2), sums(3);
  const auto launch = config(3, threads);
  ASSERT_EQ(cudaLaunchKernelEx(&launch, sum_of_block, x.data(), sums.data()), cudaSuccess);
  EXPECT_EQ(sums, std::vector<int>(3, 2 * threads));
}

TEST_P(MachineTest, EveryThreadOfEveryBlockRunsOnceUnderItsIndices) {
  std::vector<unsigned> index(2 * 3 * 4 * 5 * 6 * 2);
  const auto launch = config({2, 3, 4}, {5, 6, 2});
  ASSERT_EQ(cudaLaunchKernelEx(&launch, where_am_i, index.data()), cudaSuccess);
  for (unsigned i = 0; i < index.size(); ++i) ASSERT_EQ(index[i], i / 60 * 1000 + i % 60);
}

TEST_P(MachineTest, ABarrierThatSomeThreadsNeverReachIsAFailure) {
  const auto launch = config(1, threads);
  EXPECT_EQ(cudaLaunchKernelEx(&launch, half_waits), cudaErrorLaunchFailure);
  EXPECT_NE(last_failure().find("48 have ended"), std::string::npos) << last_failure();
}

TEST_P(MachineTest, ThreadsAtDifferentBarriersAreAFailure) {
  const auto launch = config(1, threads);
  EXPECT_EQ(cudaLaunchKernelEx(&launch, two_barriers), cudaErrorLaunchFailure);
  EXPECT_NE(last_failure().find("different barriers"), std::string::npos) << last_failure();
}

TEST_P(MachineTest, LanesOfAWarpSwapValues) {
  std::vector<float> x(threads);
  for (int i = 0; i < threads; ++i) x[i] = static_cast<float>(i);
  const auto launch = config(1, threads);
  ASSERT_EQ(cudaLaunchKernelEx(&launch, lanes_swapped, x.data(), 5), cudaSuccess);
  for (int i = 0; i < threads; ++i) ASSERT_EQ(x[i], static_cast<float>(i ^ 5));
}

TEST_P(MachineTest, AnInstructionOfAWarpThatSomeLanesNeverReachIsAFailure) {
  std::vector<float> x(threads);
  const auto launch = config(1, threads);
  EXPECT_EQ(cudaLaunchKernelEx(&launch, half_a_warp_swaps, x.data()), cudaErrorLaunchFailure);
  EXPECT_NE(last_failure().find("16 of 32 lanes"), std::string::npos) << last_failure();
  EXPECT_EQ(cudaLaunchKernelEx(&launch, lanes_apart, x.data()), cudaErrorLaunchFailure);
  EXPECT_NE(last_failure().find("different instructions"), std::string::npos) << last_failure();
  ASSERT_EQ(cudaLaunchKernelEx(&launch, lanes_swapped, x.data(), 1), cudaSuccess);
}

TEST_P(MachineTest, ImpossibleGridsAreRefused) {
  for (const auto& launch : {config({1, 65536}, threads), config(1, 1025), config(0, threads)})
    EXPECT_EQ(cudaLaunchKernelEx(&launch, half_waits), cudaErrorInvalidConfiguration);
}

INSTANTIATE_TEST_SUITE_P(Orders, MachineTest, testing::Values(Order::ascending, Order::descending));

TEST(MachineOrderTest, AMissingBarrierGivesDifferentResultsInTheTwoOrders) {
  std::vector<std::vector<int>> results;
  for (const Order order : {Order::ascending, Order::descending}) {
    std::vector<int>& x = results.emplace_back(threads);
    for (int i = 0; i < threads; ++i) x[i] = i + 1;
    set_order(order);
    const auto launch = config(1, threads);
    ASSERT_EQ(cudaLaunchKernelEx(&launch, reverse_without_barrier, x.data()), cudaSuccess);
  }
  set_order(Order::ascending);
  EXPECT_NE(results[0], results[1]);
}

TEST(HostBfloat16Test, RoundsToNearestEven) {
  const auto round = [](float value) { return __bfloat162float(__float2bfloat16_rn(value)); };
  EXPECT_EQ(round(1 + 0x1p-8f), 1.0f);            // a tie, to even
  EXPECT_EQ(round(1 + 0x3p-8f), 1 + 0x1p-6f);     // a tie, to even
  EXPECT_EQ(round(1 + 0x1.01p-8f), 1 + 0x1p-7f);  // above a tie
  EXPECT_EQ(round(-0x1.fffffep127f), -std::numeric_limits<float>::infinity());
  EXPECT_TRUE(std::isnan(round(std::numeric_limits<float>::quiet_NaN())));
}

}  // namespace
}  // namespace microtome::host_cuda
