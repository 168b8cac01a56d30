#include "engine/init.h"
