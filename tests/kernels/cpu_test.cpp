// What the CPU backend does to the processor, and what it says of it.
#include "kernels/backend.h"
#include "kernels/cpu/processor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

namespace microtome::test {
namespace {

/// Their sums' bits; a comparison would take a denormal number for 0 itself. They are enough for every thread to add some.
std::vector<std::uint32_t> bits_of_sums(float first, float second) {
  const auto backend = make_backend("cpu", Precision::f32);
  const Layout layout{{16, 32, 32, 16}};
  std::vector<float> a(layout.shape.count(), first), b(a.size(), second), y(a.size(), 1.0f);
  const auto tensor = [&](std::vector<float>& values) {
    Tensor t;
    static_cast<Layout&>(t) = layout;
    t.data = values.data();
    return t;
  };
  backend->add({}, layout, layout, layout)->forward(tensor(a), nullptr, tensor(b), nullptr, tensor(y));
  std::vector<std::uint32_t> bits(y.size());
  std::transform(y.begin(), y.end(), bits.begin(), [](float value) { return std::bit_cast<std::uint32_t>(value); });
  return bits;
}

TEST(CpuTest, DenormalNumbersAreZeroInEveryThread) {
  constexpr float smallest = std::numeric_limits<float>::min(), denormal = std::numeric_limits<float>::denorm_min();
  constexpr std::uint32_t zero = 0;
  const auto all = [](const std::vector<std::uint32_t>& bits, std::uint32_t value) {
    return static_cast<std::size_t>(std::count(bits.begin(), bits.end(), value)) == bits.size();
  };
  EXPECT_TRUE(all(bits_of_sums(1.5f * smallest, -smallest), zero)) << "a result";
  EXPECT_TRUE(all(bits_of_sums(0.0f, 5 * denormal), zero)) << "an operand";
  EXPECT_TRUE(all(bits_of_sums(smallest, smallest), std::bit_cast<std::uint32_t>(2 * smallest)));
}

std::string name_in(const char* cpuinfo) {
  std::istringstream in(cpuinfo);
  return processor_of(in);
}

TEST(CpuTest, AProcessorIsCalledByItsNameOrItsNumbers) {
  EXPECT_EQ(name_in("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9B14\n\n"
                    "processor\t: 1\nmodel name\t: another\n"),
            "AMD EPYC 9B14");
  EXPECT_EQ(name_in("processor\t: 0\nBogoMIPS\t: 2000.00\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
                    "CPU part\t: 0xd4f\nCPU revision\t: 0\n\nprocessor\t: 1\nCPU implementer\t: 0x42\nCPU part\t: 0x1\n"),
            "CPU implementer 0x41, part 0xd4f");
  EXPECT_EQ(name_in("model name\t:\nCPU implementer\t: 0x41\n"), "CPU");
  EXPECT_EQ(name_in(""), "CPU");
}

}  // namespace
}  // namespace microtome::test
