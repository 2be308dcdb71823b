#include "mgmt/metrics.h"

#include <future>
#include <map>
#include <sstream>

#include "brick/base/metrics_server.h"

namespace voldfs::mgmt {

namespace {

constexpr size_t kProcessesMax = 512;

struct Family {
  std::string head;     // HELP and TYPE, of the first that has them
  std::string samples;
};

}  // namespace

std::vector<std::string> local_metrics(int timeout_ms) {
  std::vector<std::string> names = metrics_servers();
  if (names.size() > kProcessesMax) names.resize(kProcessesMax);
  std::vector<std::future<Result<std::string>>> answers;
  for (const std::string& name : names) answers.push_back(std::async(std::launch::async, [name, timeout_ms] { return read_metrics(name, timeout_ms); }));
  std::vector<std::string> texts;
  for (auto& answer : answers) {
    if (auto text = answer.get()) texts.push_back(std::move(*text));
  }
  return texts;
}

std::string merge_expositions(const std::vector<std::string>& texts) {
  std::map<std::string, Family> families;
  for (const std::string& text : texts) {
    std::istringstream lines(text);
    Family* family = nullptr;
    bool head_is_ours = false;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("# HELP ") || line.starts_with("# TYPE ")) {
        const std::string name = line.substr(7, line.find(' ', 7) - 7);
        Family& named = families[name];
        if (family != &named) head_is_ours = named.head.empty();
        family = &named;
        if (head_is_ours) family->head += line + "\n";
      } else if (family && !line.empty() && line[0] != '#') {
        family->samples += line + "\n";
      }
    }
  }
  std::string out;
  for (const auto& [name, family] : families) out += family.head + family.samples;
  return out;
}

}  // namespace voldfs::mgmt
