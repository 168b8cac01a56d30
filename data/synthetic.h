// Patches that look like stained tissue and cost nothing, in PCam's and IDC's own formats. A value depends on the seed and
// on its patch alone, never on threads. In PCam's form the label is what lies in the centre 32 x 32; what surrounds it says
// nothing. Classes agree in mean colour: what differs is the nuclei's size, shape and crowding.
#pragma once

#include "data/format.h"

#include <cstdint>
#include <filesystem>

namespace microtome {

/// Six HDF5 files of 96 x 96 patches in `folder`, which is made; it may exist but must be empty (Error(ExitCode::in_use)).
void synthesize_pcam(const std::filesystem::path& folder, const SynthesizeOptions& options);

/// A tree of PNG files of 50 x 50, a few smaller, patients with 10 to 50 % of class 1 each. IDC names no splits: the three
/// numbers are added, and load() deals the patients. Errors as above.
void synthesize_idc(const std::filesystem::path& folder, const SynthesizeOptions& options);

/// One patch, H W C, as synthesize_pcam (96 x 96) and synthesize_idc (50 x 50) draw it; `slide` sets the stain.
void draw_pcam_patch(std::uint64_t seed, std::uint64_t index, std::uint64_t slide, bool tumour, std::uint8_t* pixels);
void draw_idc_patch(std::uint64_t seed, std::uint64_t index, std::uint64_t slide, bool tumour, std::uint8_t* pixels);

}  // namespace microtome
