#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <random>
#include <string>
#include <vector>

namespace voldfs::test {

// Random changes of one file's content, through one or several mounts by turns, and what it must then hold.
// One thread.
class ContentStress {
 public:
  struct Options {
    std::vector<std::string> paths;  // of one file, a mount each; it is made
    uint64_t seed = 0;
    std::chrono::milliseconds time{1000};
    uint64_t operations_max = UINT64_MAX;
    size_t size_max = 256 << 10;
    bool mappings = true;
    bool direct = true;
  };

  explicit ContentStress(const Options& options);
  ~ContentStress();
  ContentStress(const ContentStress&) = delete;
  ContentStress& operator=(const ContentStress&) = delete;

  // Empty: all was as it must be. Otherwise what was not, and the last operations.
  std::string run();
  uint64_t operations() const { return operations_; }

 private:
  struct Place {
    std::string path;
    int fd = -1;         // O_RDWR
    int direct = -1;     // O_RDWR | O_DIRECT
    int appending = -1;  // O_WRONLY | O_APPEND
  };
  struct Range {
    size_t offset, size;
  };

  void open_all();
  void close_all(Place& place);
  void step();
  Range range(bool inside);  // inside: of what is there
  std::vector<char> pattern(size_t size);
  void expect(size_t offset, size_t size, const char* got, const std::string& by);
  void put(size_t offset, const std::vector<char>& data);
  void fail_with(const std::string& what);
  void failed_call(const std::string& what);
  void check_size();
  void check_all();
  void check_holes();

  void read_one();
  void write_one();
  void map_read();
  void map_write();
  void truncate_one();
  void allocate();
  void copy();
  void append();
  void direct_io();
  void reopen();
  void read_through_vectors();

  const Options options_;
  std::mt19937_64 random_;
  std::vector<Place> places_;
  Place* at_ = nullptr;  // of this operation
  std::vector<char> expected_;
  std::deque<std::string> log_;
  std::string failure_;
  uint64_t operations_ = 0;
  char* aligned_ = nullptr;
};

}  // namespace voldfs::test
