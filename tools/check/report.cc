#include "tools/check/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace voldfs::check {

namespace {

const char* name_of(Severity severity) {
  switch (severity) {
    case Severity::kError: return "error";
    case Severity::kPending: return "pending";
    case Severity::kNote: return "note";
  }
  return "error";
}

long count(const Findings& findings, Severity severity) {
  return std::count_if(findings.begin(), findings.end(),
                       [&](const Finding& finding) { return finding.severity == severity && !finding.repaired; });
}

// Names on a disk are bytes; JSON wants text.
std::string dump(const nlohmann::json& document) {
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string to_text(const Findings& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    text += std::string(finding.repaired ? "repaired" : name_of(finding.severity)) + " " + finding.kind + " " +
            finding.brick + ": " + finding.path + " " + finding.sentence + "\n";
  }
  return text + std::to_string(count(findings, Severity::kError)) + " errors, " +
         std::to_string(count(findings, Severity::kPending)) + " pending, " +
         std::to_string(count(findings, Severity::kNote)) + " notes\n";
}

std::string to_json(const Findings& findings, bool strict) {
  nlohmann::json list = nlohmann::json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"severity", name_of(finding.severity)}, {"kind", finding.kind}, {"brick", finding.brick},
                    {"path", finding.path}, {"sentence", finding.sentence}, {"repaired", finding.repaired}});
  }
  return dump({{"clean", is_clean(findings, strict)}, {"errors", count(findings, Severity::kError)},
               {"pending", count(findings, Severity::kPending)}, {"notes", count(findings, Severity::kNote)},
               {"findings", list}});
}

bool is_clean(const Findings& findings, bool strict) {
  return count(findings, Severity::kError) == 0 && (!strict || count(findings, Severity::kPending) == 0);
}

}  // namespace voldfs::check
