#pragma once

// libraft's headers are C that C++ does not take as it is: they define types inside sizeof, in static assertions about
// libraft's own ABI, and have no extern "C".

#include <uv.h>

#include <cstdbool>
#include <cstddef>
#include <cstdint>
#include <cstdio>

#define static_assert(...)
extern "C" {
#include <raft.h>
#include <raft/uv.h>
}
#undef static_assert
