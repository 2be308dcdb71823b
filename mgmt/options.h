#pragma once

#include <span>
#include <string>
#include <string_view>

#include "brick/base/result.h"

// The options of a volume, as `voldctl volume set help` shows them.
namespace voldfs::mgmt {

enum class OptionType { kBool, kInteger, kPercent, kSeconds, kChoice };

struct OptionInfo {
  const char* key;
  OptionType type;
  const char* default_value;
  double low, high;      // both inside; kChoice: unused
  const char* choices;   // kChoice: separated by '|'
  const char* meaning;
};

std::span<const OptionInfo> option_table();
const OptionInfo* find_option(std::string_view key);
// In the table, or one of the user's own ("user.*"), which voldfs keeps and shows and does not read.
bool known_option(std::string_view key);
// The value as it is stored ("yes" becomes "on"), or a sentence: no such option (with the nearest key), out of range.
Explained<std::string> check_option(std::string_view key, std::string_view value);
std::string range_of(const OptionInfo& option);  // for people: "0 to 50", "wait or error"

}  // namespace voldfs::mgmt
