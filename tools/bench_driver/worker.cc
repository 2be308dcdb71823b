#include "tools/bench_driver/worker.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace voldfs::bench {

void give_up(const char* call, const std::string& path) {
  std::fprintf(stderr, "bench_driver: %s %s: %s\n", call, path.c_str(), std::strerror(errno));
  std::_Exit(1);
}

void check(bool good, const char* call, const std::string& path) {
  if (!good) give_up(call, path);
}

Worker::Worker(const Options& options, unsigned number)
    : options(options),
      name("t" + std::to_string(number)),
      dir(options.dir + '/' + name),
      data_path(options.dir + "/data" + std::to_string(number)),
      data_size(std::max<uint64_t>(1, options.file_mib / options.threads) * kBlock),
      random(number),
      buffer(static_cast<char*>(std::aligned_alloc(kSmall, kBlock)), &std::free) {
  std::memset(buffer.get(), 'v', kBlock);
}

}  // namespace voldfs::bench
