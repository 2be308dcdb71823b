#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "brick/base/unique_fd.h"

namespace voldfs::bench {

constexpr size_t kSmall = 4096;
constexpr size_t kBlock = size_t{1} << 20;  // 1 MiB
constexpr unsigned kInFlight = 16;          // threads of the rows "16 in flight"
constexpr uint64_t kListed = 10'000;        // files of the directory that is listed

struct Options {
  std::string dir;                  // where everything is made, and removed again
  std::string beside;               // `dir` through another mount; empty: there is none
  std::vector<std::string> bricks;  // what `dir` is on each brick; empty: not known
  unsigned threads = 1;
  double seconds = 1;     // longest time of a workload
  uint64_t files = 0;     // most files of a thread
  uint64_t file_mib = 0;  // of the files for data, over all threads
};

// From any thread, with others still at work.
[[noreturn]] void give_up(const char* call, const std::string& path);
void check(bool good, const char* call, const std::string& path);

// What one thread works on. Its own, but for the data file of the workloads with several in flight.
struct Worker {
  Worker(const Options& options, unsigned number);
  std::string file(char kind, uint64_t i) const { return dir + '/' + kind + std::to_string(i); }

  const Options& options;
  const std::string name, dir, data_path;
  uint64_t data_size;  // of the data file, as written
  uint64_t created = 0, renamed = 0, small = 0, missing = 0,
           directories = 0;  // files f, of them now r; files s; names m; directories d
  std::mt19937_64 random;
  unique_fd fd;  // of the data file, while a workload uses it
  std::unique_ptr<char, decltype(&std::free)> buffer;
};

}  // namespace voldfs::bench
