#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "brick/wire/types.h"
#include "dht/layout.h"

// What a name hashes as (dht/README.md, "Temporary names"). Frozen: a change places names elsewhere.
namespace voldfs::dht {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_lower_or_digit(char c) { return is_lower(c) || is_digit(c); }
bool is_alphanumeric(char c) { return is_lower_or_digit(c) || is_upper(c); }

bool all(std::string_view text, bool (*is)(char)) { return std::all_of(text.begin(), text.end(), is); }

// The six characters that mkstemp() puts for XXXXXX. A word (.config) or a number (.000001) is more likely to be
// somebody's choice: one in 200 of mkstemp's is taken for one.
bool is_mkstemp_tail(std::string_view text) {
  return text.size() == 6 && all(text, is_alphanumeric) && !all(text, is_lower) && !all(text, is_digit);
}

// What stands before the last dot, and what behind it; both not empty, or there is no such dot.
bool split_at_dot(std::string_view name, std::string_view* before, std::string_view* behind) {
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos || dot == 0 || dot + 1 == name.size()) return false;
  *before = name.substr(0, dot);
  *behind = name.substr(dot + 1);
  return true;
}

constexpr std::array<std::string_view, 7> kSuffixes = {"tmp", "new", "part", "partial", "lock", "bak", "old"};

// One step: the name without its first mark, or the name itself. Never empty.
std::string_view strip_once(std::string_view name) {
  if (name.size() < 2) return name;
  std::string_view before, behind;
  const bool has_suffix = split_at_dot(name, &before, &behind);
  if (name.front() == '.') {
    if (has_suffix && before.size() >= 2 && is_mkstemp_tail(behind)) return before.substr(1);
    return name.substr(1);
  }
  if (name.back() == '~') return name.substr(0, name.size() - 1);
  if (!has_suffix) return name;
  std::string_view stem, middle;
  const bool has_middle = split_at_dot(before, &stem, &middle);
  if (has_middle && behind == "partial" && middle.size() == 8 && all(middle, is_lower_or_digit)) return stem;
  if (std::find(kSuffixes.begin(), kSuffixes.end(), behind) != kSuffixes.end()) return before;
  if (has_middle && middle == "tmp" && all(behind, is_alphanumeric)) return stem;
  return name;
}

}  // namespace

std::string_view effective_name(HashRule, std::string_view name) {
  for (;;) {  // each step shortens it
    const std::string_view stripped = strip_once(name);
    if (stripped.size() == name.size()) return name;
    name = stripped;
  }
}

uint64_t name_key(HashRule rule, const Id& parent, std::string_view name) {
  // No directory has a longer name; what does not fit would be cut, and refused by the brick.
  const std::string_view effective = effective_name(rule, name).substr(0, wire::kNameMax);
  std::array<char, sizeof(Id) + wire::kNameMax> input;
  std::memcpy(input.data(), parent.bytes.data(), sizeof(Id));
  std::memcpy(input.data() + sizeof(Id), effective.data(), effective.size());
  return XXH3_64bits(input.data(), sizeof(Id) + effective.size());
}

}  // namespace voldfs::dht
