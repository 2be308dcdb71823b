#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace voldfs::test {

// What a sequence of calls answered, line by line, so that two file systems can be compared.
class Transcript {
 public:
  // A call that returns -1 and errno, or something else. Returns what it returned.
  template <class Value>
  Value call(const std::string& what, Value result) {
    const int error = errno;
    lines_.push_back(what + " = " + (result == Value(-1) ? "errno " + std::to_string(error) : std::to_string(result)));
    return result;
  }
  // A call whose value differs from file system to file system (a descriptor): whether it worked.
  int ok(const std::string& what, int result) {
    const int error = errno;
    lines_.push_back(what + " = " + (result < 0 ? "errno " + std::to_string(error) : std::string("ok")));
    return result;
  }
  void note(const std::string& what, const std::string& value) { lines_.push_back(what + " = " + value); }
  // Type, mode, links, owner, size (of what has one) and whether the times make sense.
  void stat(const std::string& what, const std::string& path);
  void line(std::string text) { lines_.push_back(std::move(text)); }
  const std::vector<std::string>& lines() const { return lines_; }

 private:
  std::vector<std::string> lines_;
};

// A case: the same calls in an empty directory of its own on each file system.
struct ParityCase {
  const char* name;
  void (*run)(const std::string& directory, Transcript& out);
};

}  // namespace voldfs::test
