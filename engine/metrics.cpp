#include "engine/metrics.h"
