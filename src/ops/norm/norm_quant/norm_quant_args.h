#pragma once

#include "ops/norm/norm_quant.h"
