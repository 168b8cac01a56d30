#include "data/pcam.h"
