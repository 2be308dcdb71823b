#pragma once

#include <cstdint>
#include <string>
#include <vector>

// What an offline check found. One finding, one sentence.
namespace voldfs::check {

enum class Severity : uint8_t {
  kError,    // breaks a rule of FORMAT.md
  kPending,  // left by something that was cut off; mends itself when the brick serves, an error with --strict
  kNote,     // allowed, and worth knowing
};

struct Finding {
  Severity severity = Severity::kError;
  std::string kind;      // short and stable, for scripts: "stub-dangling"
  std::string brick;     // the brick's directory
  std::string path;      // in it; "/" its root
  std::string sentence;  // what is wrong with it
  bool repaired = false;
};

using Findings = std::vector<Finding>;

}  // namespace voldfs::check
