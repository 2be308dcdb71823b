#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace voldfs::test {

// What several clients do with the same two files: a number that each adds one to under a lock, and a log that each appends
// its lines to. One object a client, each in one thread at a time. Failures are gtest's, not fatal.
class CrashShared {
 public:
  // `directory`: through this client's mount. `name`: of the client, without spaces.
  CrashShared(std::filesystem::path directory, std::string name);
  ~CrashShared();
  CrashShared(const CrashShared&) = delete;
  CrashShared& operator=(const CrashShared&) = delete;

  // Once, by whoever comes first.
  static void begin(const std::filesystem::path& directory);
  // Adds one, appends one line. False: a call failed.
  bool step();
  uint64_t steps() const { return steps_; }
  // Both files say what the clients did, each line once and in its client's order.
  static void check(const std::filesystem::path& directory, const std::vector<std::unique_ptr<CrashShared>>& clients);

 private:
  bool add_one();
  bool append_line();

  const std::string name_;
  int number_ = -1, log_ = -1;
  uint64_t steps_ = 0;
};

}  // namespace voldfs::test
