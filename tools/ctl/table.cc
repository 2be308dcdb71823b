#include "tools/ctl/table.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace voldfs::ctl {

namespace {

bool terminal_shows_colour() {
  const char* none = ::getenv("NO_COLOR");
  const char* kind = ::getenv("TERM");
  return ::isatty(STDOUT_FILENO) && !(none && *none) && kind && std::strcmp(kind, "dumb") != 0;
}

bool& colour_on() {
  static bool on = terminal_shows_colour();
  return on;
}

// Characters, not bytes: names may be UTF-8.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

}  // namespace

void force_colour(bool on) { colour_on() = on; }

std::string coloured(const std::string& text, Colour colour) {
  static constexpr const char* codes[] = {"", "\033[32m", "\033[31m", "\033[33m", "\033[1m"};
  if (colour == Colour::kNone || !colour_on()) return text;
  return codes[static_cast<size_t>(colour)] + text + "\033[0m";
}

std::string Table::text() const {
  std::vector<size_t> widths;
  for (size_t i = 0; i < head_.size(); ++i) {
    size_t widest = width(head_[i]);
    for (const auto& row : rows_) widest = std::max(widest, width(row[i].text));
    widths.push_back(widest);
  }
  std::string out;
  const auto line = [&](auto text_of) {
    for (size_t i = 0; i < head_.size(); ++i) {
      const auto [plain, shown] = text_of(i);
      out += shown;
      if (i + 1 < head_.size()) out.append(widths[i] - width(plain) + 2, ' ');
    }
    out += '\n';
  };
  line([&](size_t i) { return std::pair(head_[i], coloured(head_[i], Colour::kStrong)); });
  for (const auto& row : rows_) {
    line([&](size_t i) { return std::pair(row[i].text, coloured(row[i].text, row[i].colour)); });
  }
  return out;
}

std::string bytes_text(uint64_t bytes) {
  static constexpr const char* units[] = {"Bytes", "KB", "MB", "GB", "TB", "PB"};
  size_t unit = 0;
  double value = static_cast<double>(bytes);
  for (; value >= 1024 && unit < 5; ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f%s" : "%.1f%s", value, units[unit]);
  return text;
}

std::string time_text(int64_t seconds) {
  const std::time_t time = seconds;
  std::tm utc{};
  char text[32];
  return ::gmtime_r(&time, &utc) && std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &utc) ? text : "?";
}

}  // namespace voldfs::ctl
