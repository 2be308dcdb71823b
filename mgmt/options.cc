#include "mgmt/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "mgmt/cluster_state.h"

namespace voldfs::mgmt {

namespace {

// Held against what bricks and mounts heed by tests/mount/managed/options_test.cc: what does nothing is not here.
constexpr OptionInfo kOptions[] = {
    {"brick.log-level", OptionType::kChoice, "info", 0, 0, "error|warn|info|debug",
     "The least that the bricks of the volume write to their logs."},
    {"brick.min-free", OptionType::kPercent, "1", 0, 50, "",
     "A brick with less than this free, of space or of inodes, gets no new files; they go to another brick."},
    {"client.brick-down-timeout", OptionType::kSeconds, "0", 0, 86400, "",
     "How long an operation waits for a brick that is down before it fails with EIO (client.on-brick-down=wait); 0: without end. "
     "A mount's own brick-timeout= wins."},
    {"client.log-level", OptionType::kChoice, "info", 0, 0, "error|warn|info|debug",
     "The least that mounts write to their logs. A mount's own log-level= wins."},
    {"client.on-brick-down", OptionType::kChoice, "wait", 0, 0, "wait|error",
     "What an operation does that needs a brick that is down: wait for it, or fail with EIO at once. Other bricks' files are not concerned. "
     "A mount's own on-brick-down= wins."},
    {"volume.dir-copies", OptionType::kInteger, "2", 1, 2, "",
     "On how many bricks the record of a directory is kept that is made from now on. With 1, a lost brick cuts off paths through it."},
};

// Edit distance (Levenshtein), to suggest a key.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string nearest_key(std::string_view key) {
  const auto* best = std::min_element(std::begin(kOptions), std::end(kOptions), [&](const auto& a, const auto& b) {
    return distance(key.substr(0, kNameMax), a.key) < distance(key.substr(0, kNameMax), b.key);
  });
  return best->key;
}

std::string number_text(double value) {
  std::string text = std::to_string(value);
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text.pop_back();
  return text;
}

Explained<std::string> bad_value(const OptionInfo& option, std::string_view value) {
  return explain("\"" + std::string(value) + "\" is no value for " + option.key + ": it takes " + range_of(option) + ".");
}

Explained<std::string> check_number(const OptionInfo& option, std::string_view value) {
  std::string_view digits = value;
  if (option.type == OptionType::kPercent && digits.ends_with('%')) digits.remove_suffix(1);
  double number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number, std::chars_format::fixed);
  if (error != std::errc() || end != digits.data() + digits.size() || !std::isfinite(number))
    return bad_value(option, value);
  if (number < option.low || number > option.high) return bad_value(option, value);
  if (number != std::floor(number)) return bad_value(option, value);
  return std::string(digits);
}

Explained<std::string> check_bool(const OptionInfo& option, std::string_view value) {
  for (std::string_view yes : {"on", "yes", "true", "enable", "1"}) {
    if (value == yes) return std::string("on");
  }
  for (std::string_view no : {"off", "no", "false", "disable", "0"}) {
    if (value == no) return std::string("off");
  }
  return bad_value(option, value);
}

Explained<std::string> check_choice(const OptionInfo& option, std::string_view value) {
  std::string_view rest = option.choices;
  while (!rest.empty()) {
    const size_t bar = rest.find('|');
    if (rest.substr(0, bar) == value) return std::string(value);
    rest = bar == std::string_view::npos ? "" : rest.substr(bar + 1);
  }
  return bad_value(option, value);
}

bool is_user_key(std::string_view key) {
  return key.size() > 5 && key.size() <= 2 * kNameMax && key.starts_with("user.") &&
         std::all_of(key.begin(), key.end(), [](unsigned char c) { return c > ' ' && c < 0x7f && c != '='; });
}

}  // namespace

std::span<const OptionInfo> option_table() { return kOptions; }

const OptionInfo* find_option(std::string_view key) {
  const auto* found = std::find_if(std::begin(kOptions), std::end(kOptions), [&](const auto& option) { return option.key == key; });
  return found == std::end(kOptions) ? nullptr : found;
}

bool known_option(std::string_view key) { return is_user_key(key) || find_option(key); }

Explained<std::string> check_option(std::string_view key, std::string_view value) {
  if (value.size() > kOptionValueMax)
    return explain("A value has at most " + std::to_string(kOptionValueMax) + " bytes.");
  if (is_user_key(key)) return std::string(value);
  const OptionInfo* option = find_option(key);
  if (!option) {
    return explain("There is no option " + std::string(key.substr(0, 2 * kNameMax)) + ". Did you mean " + nearest_key(key) +
                   "? `voldctl volume set help` lists them.");
  }
  switch (option->type) {
    case OptionType::kBool: return check_bool(*option, value);
    case OptionType::kChoice: return check_choice(*option, value);
    case OptionType::kInteger:
    case OptionType::kPercent:
    case OptionType::kSeconds: return check_number(*option, value);
  }
  return bad_value(*option, value);
}

std::string range_of(const OptionInfo& option) {
  switch (option.type) {
    case OptionType::kBool: return "on or off";
    case OptionType::kChoice: {
      std::string choices = option.choices;
      for (size_t bar; (bar = choices.find('|')) != std::string::npos;) choices.replace(bar, 1, ", ");
      return "one of " + choices;
    }
    case OptionType::kInteger: return number_text(option.low) + " to " + number_text(option.high);
    case OptionType::kPercent: return number_text(option.low) + " to " + number_text(option.high) + " percent";
    case OptionType::kSeconds: return number_text(option.low) + " to " + number_text(option.high) + " seconds";
  }
  return "";
}

}  // namespace voldfs::mgmt
