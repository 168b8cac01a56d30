#include "engine/graph.h"
