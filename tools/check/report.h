#pragma once

#include <string>

#include "tools/check/finding.h"

namespace voldfs::check {

// One line a finding: SEVERITY KIND BRICK: PATH SENTENCE. Ends with the numbers.
std::string to_text(const Findings& findings);
// {"clean": .., "errors": n, "pending": n, "notes": n, "findings": [{...}]}
std::string to_json(const Findings& findings, bool strict);
// Whether nothing is wrong: no error is left, and with `strict` nothing pending either.
bool is_clean(const Findings& findings, bool strict);

}  // namespace voldfs::check
