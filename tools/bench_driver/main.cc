#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gflags/gflags.h>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tools/bench_driver/measure.h"

// The rows of tools/bench that are system calls on one directory: each a line of JSON. A line {"ask":
// "remount"} or {"ask": "cold"} asks for the client to be mounted anew, or that and the machine's caches to
// be dropped; a line comes back when it is done.

DEFINE_string(dir, "", "Directory to work in");
DEFINE_string(bricks, "", "What that directory is on each brick, separated by commas; empty: not known");
DEFINE_string(beside, "", "That directory through another mount, for section shared");
DEFINE_string(section, "names", "Rows: names (and small files), data, or shared");
DEFINE_uint32(threads, 1, "Threads, each with files of its own");
DEFINE_double(seconds, 1, "Longest time of a workload, seconds");
DEFINE_uint32(files, 5000, "Most files of a thread");
DEFINE_uint32(file_mib, 256, "Size of the files for data, MiB, over all threads");
DEFINE_bool(profile, false, "Say when a row begins");

namespace voldfs::bench {
namespace {

void put_line(const nlohmann::json& line) {
  std::puts(line.dump().c_str());
  std::fflush(stdout);
}

constexpr std::chrono::milliseconds kAge{1200};

void ask(const char* what) {
  put_line({{"ask", what}});
  std::string answer;
  if (!std::getline(std::cin, answer)) give_up("wait for an answer from", "tools/bench");
}

void prepare_caches(Caches caches) {
  switch (caches) {
    case Caches::kKept:
      return;
    case Caches::kClientCold:
      return ask("remount");
    case Caches::kAllCold:
      return ask("cold");
    case Caches::kAged:
      return std::this_thread::sleep_for(kAge);
  }
}

void report(const Measured& measured) {
  nlohmann::json line = {
      {"row", measured.name}, {"unit", measured.unit}, {"steps", measured.latencies_ns.size()}};
  const std::vector<uint32_t>& sorted = measured.latencies_ns;
  if (!sorted.empty()) {
    line["rate"] = measured.rate;
    for (const auto& [name, part] :
         {std::pair{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1.0}}) {
      const auto at = static_cast<size_t>(part * static_cast<double>(sorted.size()));
      line["latency_us"][name] = sorted[std::min(at, sorted.size() - 1)] / 1e3;
    }
  }
  put_line(line);
}

// The threads of a workload with its own number of them: all work on the first's files.
Workers make_workers(const Workload& workload, const Options& options) {
  Workers workers;
  for (unsigned t = 0; t < workload.threads; ++t) {
    workers.push_back(std::make_unique<Worker>(options, 0));
    workers.back()->random.seed(t + 1);
  }
  return workers;
}

void run(const Options& options) {
  Workers own;
  for (unsigned t = 0; t < options.threads; ++t) {
    own.push_back(std::make_unique<Worker>(options, t));
    check(::mkdir(own.back()->dir.c_str(), 0755) == 0, "mkdir", own.back()->dir);
  }
  for (const Workload& workload : FLAGS_section == "names"    ? names_workloads(options)
                                  : FLAGS_section == "shared" ? shared_workloads()
                                                              : data_workloads(options)) {
    const Workers special = make_workers(workload, options);
    const Workers& workers = special.empty() ? own : special;
    for (const auto& worker : workers)
      workload.prepare(*worker);
    if (FLAGS_section == "data") ::sync();  // what earlier rows have written is not this one's time
    prepare_caches(workload.caches);
    if (FLAGS_profile) ask("begin");
    for (const Measured& row : measure(workload, workers, options))
      report(row);
  }
  for (const auto& entry : std::filesystem::directory_iterator(options.dir))
    std::filesystem::remove_all(entry.path());
}

Options options_from_flags() {
  Options options{FLAGS_dir, FLAGS_beside, {}, FLAGS_threads, FLAGS_seconds, FLAGS_files, FLAGS_file_mib};
  std::istringstream bricks(FLAGS_bricks);
  for (std::string brick; std::getline(bricks, brick, ',');)
    options.bricks.push_back(brick);
  return options;
}

}  // namespace
}  // namespace voldfs::bench

int main(int argc, char** argv) {
  gflags::SetUsageMessage("--dir=DIR: the rows of tools/bench on one directory");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  const bool known = FLAGS_section == "names" || FLAGS_section == "data" || (FLAGS_section == "shared" && !FLAGS_beside.empty());
  if (FLAGS_dir.empty() || !known || FLAGS_threads == 0 || FLAGS_files == 0 || FLAGS_file_mib == 0 ||
      FLAGS_seconds <= 0) {
    std::fprintf(stderr,
                 "bench_driver: --dir is needed, --section is names, data or shared (with --beside), and no other flag may be 0\n");
    return 2;
  }
  voldfs::bench::run(voldfs::bench::options_from_flags());
}
