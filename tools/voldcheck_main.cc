#include <gflags/gflags.h>

#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>

#include "tools/check/check_brick.h"
#include "tools/check/check_volume.h"
#include "tools/check/export.h"
#include "tools/check/repair.h"
#include "tools/check/report.h"

DEFINE_string(map, "", "Volume map file; default: the newest that one of the bricks has");
DEFINE_bool(json, false, "Print findings as one JSON document");
DEFINE_bool(strict, false, "Count what is pending (left by something that was cut off) as wrong");
DEFINE_bool(repair, false, "Mend the index of directories and the counters of subdirectories; nothing else");
DEFINE_string(export, "", "Copy the plain files of the bricks into this new directory, and check nothing");

namespace voldfs::check {
namespace {

constexpr int kClean = 0, kFindings = 1, kUsage = 2;

int complain(const std::string& sentence) {
  std::cerr << "voldcheck: " << sentence << "\n";
  return kUsage;
}

using Scans = std::vector<std::unique_ptr<BrickScan>>;

Explained<dht::VolumeMap> find_map(const Scans& scans) {
  if (!FLAGS_map.empty()) {
    std::ostringstream text;
    std::ifstream file(FLAGS_map);
    if (!file || !(text << file.rdbuf())) return explain("the map " + FLAGS_map + " cannot be read.");
    return dht::VolumeMap::parse(text.str());
  }
  const dht::VolumeMap* newest = nullptr;
  for (const auto& scan : scans) {
    if (scan->map && (!newest || scan->map->version > newest->version)) newest = &*scan->map;
  }
  if (!newest) return explain("no brick has a volume map: give --map=FILE.");
  return *newest;
}

Findings check(const Scans& scans, const dht::VolumeMap& map) {
  Findings findings;
  for (const auto& scan : scans) {
    Findings of_brick = check_brick(*scan);
    findings.insert(findings.end(), of_brick.begin(), of_brick.end());
  }
  Findings of_volume = check_volume(scans, map);
  findings.insert(findings.end(), of_volume.begin(), of_volume.end());
  if (FLAGS_repair) repair(scans, map, findings);
  return findings;
}

int run(const std::vector<std::string>& paths) {
  if (paths.empty()) return complain("name the brick directories to check (voldcheck --help).");
  Scans scans;
  for (const std::string& path : paths) {
    auto scan = scan_brick(path);
    if (!scan) return complain(scan.error());
    scans.push_back(std::move(*scan));
  }
  auto map = find_map(scans);
  if (!map) return complain(map.error());
  Findings findings;
  if (!FLAGS_export.empty()) {
    auto exported = export_files(scans, *map, FLAGS_export);
    if (!exported) return complain(exported.error());
    findings = std::move(*exported);
  } else {
    findings = check(scans, *map);
  }
  std::cout << (FLAGS_json ? to_json(findings, FLAGS_strict) : to_text(findings));
  return is_clean(findings, FLAGS_strict) ? kClean : kFindings;
}

}  // namespace
}  // namespace voldfs::check

int main(int argc, char** argv) {
  gflags::SetUsageMessage(
      "checks bricks that nobody serves against brick/FORMAT.md\n"
      "  voldcheck [--map=FILE] [--strict] [--json] [--repair] BRICKDIR...\n"
      "  voldcheck --export=DIR BRICKDIR...\n"
      "Exit status: 0 clean, 1 findings, 2 usage.");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return voldfs::check::run({argv + 1, argv + argc});
}
