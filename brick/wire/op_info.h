#pragma once

#include <span>

#include "brick/wire/ops.h"

namespace voldfs::wire {

// What both ends must know of an operation besides its bytes.
struct OpInfo {
  Op op;
  const char* name;  // in logs and metrics
  // Changes something on the brick's disk in a way that a second run would not repeat harmlessly: goes through its
  // slot, which remembers the reply. Its reply carries no payload.
  bool once;
};

// nullptr: unknown.
const OpInfo* op_info(Op op);
std::span<const OpInfo> all_op_infos();
const char* op_name(Op op);  // "unknown" for what is none

}  // namespace voldfs::wire
