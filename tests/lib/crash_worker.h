#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace voldfs::test {

// A workload that knows what every one of its calls has to answer, and what is there after it. It has a tree of its own, so
// that it alone decides that: names in two directories, each a file (perhaps with hard links) or a directory with one file in it.
// One thread at a time. Failures are gtest's, not fatal.
class CrashWorker {
 public:
  CrashWorker(std::filesystem::path root, uint64_t seed) : root_(std::move(root)), random_(seed) {}

  // Makes the two directories.
  void begin();
  // The same tree, through another mount.
  void move_to(std::filesystem::path root) { root_ = std::move(root); }
  // From here on a call may answer EIO or ESTALE: its answer is lost, and it has happened or not.
  void answers_may_be_lost() { may_be_lost_ = true; }
  // One operation. False: the mount is gone, and the operation may or may not have happened.
  bool step();
  // Finds out, after step() was false, which of the two it was. All or nothing, over all names that it concerns.
  void settle();
  // All that should be there is, and nothing else. kAtLeast: of a client that was killed, links of files may be left that are not counted
  // off before it is known to be dead (dht/README.md).
  enum class Links { kExactly, kAtLeast };
  void check_all(Links links = Links::kExactly);
  // Whether all files' link counts are what they should be.
  bool links_are_right() const;
  uint64_t operations() const { return operations_; }

 private:
  struct Object {
    std::string content;       // of the file, or of the one in the directory; unique to the object
    unsigned mode = 0;
    std::string note;          // user.note
    bool is_directory = false;
  };
  using ObjectPtr = std::shared_ptr<Object>;       // hard links share it
  using Names = std::map<std::string, ObjectPtr>;
  using Shown = std::map<std::string, std::string>;  // name to how it looks; a missing one is not in it

  std::string directory(int i) const { return (root_ / ("d" + std::to_string(i))).string(); }
  std::string path(const std::string& name) const { return (root_ / name).string(); }
  std::string any_name();
  std::string new_content();
  ObjectPtr at(const std::string& name) const;
  std::vector<std::string> links_of(const ObjectPtr& object) const;
  static std::string shown(const Object& object);
  // How it looks; its parts go to `object`. ENOENT and other errors.
  int look(const std::string& name, Object& object) const;
  std::string seen_now() const;
  bool is_lost(int error) const;
  // Made again until its outcome is known. ENOENT after an answer that was lost: it had happened.
  int remove_surely(const std::function<int()>& remove) const;

  bool done();
  // The end of a call: true if it answered as it should. False: the mount is gone; the call may have made any of `after`.
  bool judge(int result, int expected, const std::string& call, const std::vector<Names>& after = {});
  bool cut(const std::vector<Names>& after);
  void remove_half_made();
  size_t links_seen(const std::string& name) const;  // 0: it cannot be told

  bool create(const std::string& name);
  bool make_directory(const std::string& name);
  bool append(const std::string& name);
  bool remove(const std::string& name);
  bool rename(const std::string& from, const std::string& to);
  bool exchange(const std::string& from, const std::string& to);
  bool link(const std::string& from, const std::string& to);
  bool change_mode(const std::string& name);
  bool change_note(const std::string& name);
  bool check_listing();

  std::filesystem::path root_;
  std::mt19937_64 random_;
  Names names_;
  std::vector<Names> possible_;   // after an operation that was cut
  uint64_t made_ = 0, operations_ = 0;
  bool may_be_lost_ = false;
};

}  // namespace voldfs::test
