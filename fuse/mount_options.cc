#include "fuse/mount_options.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <optional>

namespace voldfs::fuse {
namespace {

// Says what is wrong with the value; empty: nothing.
using Apply = std::string (*)(MountOptions& options, const std::string& value);

struct Option {
  std::string_view name;
  bool has_value;
  Apply apply;
};

std::string seconds(const std::string& value, std::optional<double>& out) {
  char* end = nullptr;
  const double number = std::strtod(value.c_str(), &end);
  if (value.empty() || *end != 0 || !(number >= 0 && number <= 1e6)) return "wants seconds, 0 to 1000000";
  out = number;
  return {};
}

template <class Number>
std::string number(const std::string& value, Number min, Number max, Number& out) {
  Number parsed{};
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
  if (error != std::errc{} || end != value.data() + value.size() || parsed < min || parsed > max)
    return "wants a number, " + std::to_string(min) + " to " + std::to_string(max);
  out = parsed;
  return {};
}

std::string level(const std::string& value, std::optional<std::string>& out) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kLevels = {{{"trace", "trace"},
                                                                                      {"debug", "debug"},
                                                                                      {"info", "info"},
                                                                                      {"warning", "warning"},
                                                                                      {"error", "error"},
                                                                                      {"critical", "critical"},
                                                                                      {"none", "off"}}};
  std::string lower = value;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  for (const auto& [name, spdlog_name] : kLevels)
    if (lower == name) return out = std::string(spdlog_name), std::string();
  return "wants trace, debug, info, warning, error, critical or none";
}

std::string on_off(const std::string& value, bool& out) {
  if (value == "on" || value == "enable" || value == "yes") return out = true, std::string();
  if (value == "off" || value == "disable" || value == "no") return out = false, std::string();
  return "wants on or off";
}

std::string transport(const std::string& value, bool& unix_sockets) {
  if (value == "auto") return unix_sockets = true, std::string();
  if (value == "tcp") return unix_sockets = false, std::string();
  return "wants auto or tcp";
}

std::string direct_io(const std::string& value, DirectIo& out) {
  if (value == "auto") return out = DirectIo::kAuto, std::string();
  if (value == "on" || value == "enable" || value == "yes") return out = DirectIo::kOn, std::string();
  if (value == "off" || value == "disable" || value == "no") return out = DirectIo::kOff, std::string();
  return "wants auto, on or off";
}

std::string servers(const std::string& value, std::vector<std::string>& out) {
  size_t start = 0;
  while (start <= value.size()) {
    const size_t end = std::min(value.find(':', start), value.size());
    if (end == start) return "wants SERVER:SERVER:...";
    out.push_back(value.substr(start, end - start));
    start = end + 1;
  }
  return {};
}

template <unsigned long set>
std::string set_flag(MountOptions& options, const std::string&) {
  return options.mount_flags |= set, std::string();
}
template <unsigned long clear>
std::string clear_flag(MountOptions& options, const std::string&) {
  return options.mount_flags &= ~clear, std::string();
}
std::string ignore(MountOptions&, const std::string&) { return {}; }

std::string context(MountOptions& options, const char* name, const std::string& value) {
  if (!options.contexts.empty()) options.contexts += ',';
  options.contexts += std::string(name) + "=" + value;
  return {};
}

const Option kOptions[] = {
    // voldfs
    {"attribute-timeout", true, [](MountOptions& o, const std::string& v) { return seconds(v, o.behaviour.attribute_timeout_s); }},
    {"entry-timeout", true, [](MountOptions& o, const std::string& v) { return seconds(v, o.behaviour.entry_timeout_s); }},
    {"negative-timeout", true, [](MountOptions& o, const std::string& v) { return seconds(v, o.behaviour.negative_timeout_s); }},
    {"passthrough", true, [](MountOptions& o, const std::string& v) { return on_off(v, o.behaviour.passthrough); }},
    {"transport", true, [](MountOptions& o, const std::string& v) { return transport(v, o.unix_sockets); }},
    {"direct-io-mode", true, [](MountOptions& o, const std::string& v) { return direct_io(v, o.behaviour.direct_io); }},
    {"log-file", true, [](MountOptions& o, const std::string& v) { return o.log_file = v, std::string(); }},
    {"log-level", true, [](MountOptions& o, const std::string& v) { return level(v, o.log_level); }},
    {"on-brick-down", true,
     [](MountOptions& o, const std::string& v) -> std::string {
       if (v == "wait") return o.on_brick_down = client::OnBrickDown::kWait, std::string();
       if (v == "error") return o.on_brick_down = client::OnBrickDown::kError, std::string();
       return "wants wait or error";
     }},
    {"brick-timeout", true, [](MountOptions& o, const std::string& v) { return number<uint32_t>(v, 0, 86'400, o.brick_timeout_s.emplace()); }},
    {"connections", true, [](MountOptions& o, const std::string& v) { return number<uint32_t>(v, 1, wire::kSlotsMax, o.connections); }},
    {"secret", true, [](MountOptions& o, const std::string& v) { return o.secret = v, std::string(); }},
    {"map-cache", true, [](MountOptions& o, const std::string& v) { return o.map_cache = v, std::string(); }},
    {"subdir-mount", true, [](MountOptions& o, const std::string& v) { return o.subdirectory = v, std::string(); }},
    {"backup-volfile-servers", true, [](MountOptions& o, const std::string& v) { return servers(v, o.servers); }},
    {"backupvolfile-server", true, [](MountOptions& o, const std::string& v) { return servers(v, o.servers); }},
    {"server-port", true, [](MountOptions& o, const std::string& v) { return number<uint16_t>(v, 1, 65'535, o.map_port); }},
    {"allow_other", false, [](MountOptions& o, const std::string&) { return o.allow_other = true, std::string(); }},
    {"noallow_other", false, [](MountOptions& o, const std::string&) { return o.allow_other = false, std::string(); }},
    // Always so
    {"acl", false, ignore},
    {"default_permissions", false, ignore},
    // The kernel's
    {"ro", false, set_flag<MS_RDONLY>}, {"rw", false, clear_flag<MS_RDONLY>},
    {"nosuid", false, set_flag<MS_NOSUID>}, {"suid", false, clear_flag<MS_NOSUID>},
    {"nodev", false, set_flag<MS_NODEV>}, {"dev", false, clear_flag<MS_NODEV>},
    {"noexec", false, set_flag<MS_NOEXEC>}, {"exec", false, clear_flag<MS_NOEXEC>},
    {"noatime", false, set_flag<MS_NOATIME>}, {"atime", false, clear_flag<MS_NOATIME>},
    {"nodiratime", false, set_flag<MS_NODIRATIME>}, {"diratime", false, clear_flag<MS_NODIRATIME>},
    {"relatime", false, set_flag<MS_RELATIME>}, {"norelatime", false, clear_flag<MS_RELATIME>},
    {"strictatime", false, set_flag<MS_STRICTATIME>},
    {"sync", false, set_flag<MS_SYNCHRONOUS>}, {"async", false, clear_flag<MS_SYNCHRONOUS>},
    {"dirsync", false, set_flag<MS_DIRSYNC>},
    {"remount", false, [](MountOptions& o, const std::string&) { return o.remount = true, std::string(); }},
    {"context", true, [](MountOptions& o, const std::string& v) { return context(o, "context", v); }},
    {"fscontext", true, [](MountOptions& o, const std::string& v) { return context(o, "fscontext", v); }},
    {"defcontext", true, [](MountOptions& o, const std::string& v) { return context(o, "defcontext", v); }},
    {"rootcontext", true, [](MountOptions& o, const std::string& v) { return context(o, "rootcontext", v); }},
    // mount(8)'s own, which it may pass on
    {"defaults", false, ignore}, {"auto", false, ignore}, {"noauto", false, ignore}, {"nofail", false, ignore},
    {"_netdev", false, ignore}, {"user", false, ignore}, {"nouser", false, ignore}, {"users", false, ignore},
    {"owner", false, ignore}, {"group", false, ignore}, {"user", true, ignore}, {"comment", true, ignore},
};

// Levenshtein's distance.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); j++) {
      const size_t change = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, change});
    }
  }
  return row.back();
}

std::string unknown(const std::string& name) {
  const auto nearest = std::min_element(std::begin(kOptions), std::end(kOptions), [&](const Option& a, const Option& b) {
    return distance(name, a.name) < distance(name, b.name);
  });
  std::string sentence = "unknown mount option \"" + name + "\"";
  if (distance(name, nearest->name) <= std::max<size_t>(2, name.size() / 3))
    sentence += "; did you mean \"" + std::string(nearest->name) + (nearest->has_value ? "=\"?" : "\"?");
  return sentence;
}

// mount(8) keeps to itself what begins with x-; X- is for its helpers.
bool is_comment(std::string_view name) { return name.starts_with("x-") || name.starts_with("X-"); }

}  // namespace

Explained<void> parse_mount_options(std::string_view text, bool sloppy, MountOptions& options) {
  while (!text.empty()) {
    const std::string item(text.substr(0, text.find(',')));
    text.remove_prefix(std::min(text.size(), item.size() + 1));
    if (item.empty()) continue;
    const size_t equals = item.find('=');
    const bool has_value = equals != std::string::npos;
    const std::string name = item.substr(0, equals), value = has_value ? item.substr(equals + 1) : "";
    if (is_comment(name)) continue;
    const auto option = std::find_if(std::begin(kOptions), std::end(kOptions),
                                     [&](const Option& each) { return each.name == name && each.has_value == has_value; });
    if (option == std::end(kOptions)) {
      if (sloppy) continue;
      const bool known = std::any_of(std::begin(kOptions), std::end(kOptions), [&](const Option& each) { return each.name == name; });
      if (known) return explain("mount option \"" + name + (has_value ? "\" takes no value" : "\" wants a value"));
      return explain(unknown(name));
    }
    if (const std::string wrong = option->apply(options, value); !wrong.empty())
      return explain("mount option \"" + item + "\": " + name + " " + wrong);
  }
  return {};
}

}  // namespace voldfs::fuse
