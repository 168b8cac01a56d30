#include "engine/fit.h"
