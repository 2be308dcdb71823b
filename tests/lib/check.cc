#include "tests/lib/check.h"

#include <gtest/gtest.h>

#include "tools/check/check_brick.h"
#include "tools/check/check_volume.h"

namespace voldfs::test {

std::string check_bricks(Cluster& cluster) {
  std::vector<std::unique_ptr<check::BrickScan>> scans;
  std::string wrong;
  const auto add = [&wrong](const check::Findings& findings) {
    for (const check::Finding& finding : findings)
      if (finding.severity != check::Severity::kNote)
        wrong += finding.brick + finding.path + " [" + finding.kind + "] " + finding.sentence + "\n";
  };
  for (uint16_t ordinal = 1; ordinal <= cluster.count(); ++ordinal) {
    cluster.stop(ordinal);
    auto scan = check::scan_brick(cluster.brick_path(ordinal));
    if (!scan) return scan.error();
    add(check::check_brick(**scan));
    scans.push_back(std::move(*scan));
  }
  add(check::check_volume(scans, cluster.map()));
  return wrong;
}

std::vector<std::unique_ptr<check::BrickScan>> scan_bricks(Cluster& cluster) {
  std::vector<std::unique_ptr<check::BrickScan>> scans;
  for (uint16_t ordinal = 1; ordinal <= cluster.count(); ++ordinal) {
    auto scan = check::scan_brick(cluster.brick_path(ordinal));
    if (scan) scans.push_back(std::move(*scan));
    else ADD_FAILURE() << scan.error();
  }
  return scans;
}

}  // namespace voldfs::test
