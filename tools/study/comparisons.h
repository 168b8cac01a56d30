// Which of the study's differences are more than chance: the paper's question, its tests and those that fit, and ours past it.
#pragma once

#include "tools/study/tables.h"

namespace microtome {

/// Full training against transfer: Welch's test as the paper's, paired over networks, DeLong's of each network.
Section full_against_transfer(const Study& study);

/// What pretrained bases gain from the pixels that they know; what the symmetries of tissue are worth, in training and in
/// averaging; how networks past the twelve, which stand in Tables 3 and 4, compare with these.
Section past_the_paper(const Study& study);

/// What was done otherwise than in the paper, as far as it bears on these cells.
Section differences_from_the_paper(const Study& study);

}  // namespace microtome
