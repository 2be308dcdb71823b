#include <fcntl.h>
#include <gmock/gmock.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/lib/mount.h"

// A mount on the brick's host, whose kernel reads and writes files past the daemon and the brick, beside a mount that
// could be on another host: they are still as two processes on one machine.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 20'000;
constexpr uid_t kUser = 1234;

class Passthrough : public testing::Test {
 protected:
  void SetUp() override {
    if (!volume_.mount_status(0)["passthrough"]["on"].get<bool>()) GTEST_SKIP() << "no FUSE passthrough in this kernel";
  }
  uint64_t data_requests(size_t mount = 0) const { return volume_.requests(mount, "read") + volume_.requests(mount, "write"); }
  uint64_t descriptors(const char* what) const { return volume_.brick_status(0)["descriptors"][what].get<uint64_t>(); }
  bool nothing_is_pinned() const { return descriptors("pinned") == 0; }
  std::string a(const std::string& name) const { return a_ + "/" + name; }
  std::string b(const std::string& name) const { return b_ + "/" + name; }

  MountedVolume volume_{1};
  const std::string a_ = volume_.mount(), b_ = volume_.mount("transport=tcp");
};

off_t size_of(const std::string& path) {
  struct stat found{};
  return ::stat(path.c_str(), &found) == 0 ? found.st_size : -errno;
}

mode_t mode_of(const std::string& path) {
  struct stat found{};
  return ::stat(path.c_str(), &found) == 0 ? found.st_mode & 07777 : 0;
}

std::string read_at(int fd, off_t offset, size_t size) {
  std::string out(size, 0);
  const ssize_t got = ::pread(fd, out.data(), size, offset);
  return got < 0 ? "errno " + std::to_string(errno) : out.substr(0, static_cast<size_t>(got));
}

int make(const std::string& path, const std::string& text, int flags = O_RDWR) {
  const int fd = ::open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0666);  // or a brick that is started keeps it open
  if (fd >= 0 && !text.empty()) {
    EXPECT_EQ(::pwrite(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  return fd;
}

// In a process of its own, as a user who is not root.
int as_user(const std::function<int()>& run) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::setresgid(kUser, kUser, kUser) == 0 && ::setresuid(kUser, kUser, kUser) == 0 ? run() : 99);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
}

class Mapping {
 public:
  explicit Mapping(int fd) : memory_(static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0))) {}
  ~Mapping() { unmap(); }
  bool valid() const { return memory_ != MAP_FAILED; }
  void store(char value) { memory_[0] = value; }
  char load() const { return *static_cast<volatile char*>(memory_); }
  int sync() { return ::msync(memory_, 4096, MS_SYNC); }
  void unmap() {
    if (memory_) ::munmap(memory_, 4096);
    memory_ = nullptr;
  }

 private:
  char* memory_;
};

TEST_F(Passthrough, Data_OfALocalFile_ReachesNeitherDaemonNorBrick) {
  const int fd = make(a("f"), "created");
  ASSERT_GE(fd, 0) << volume_.logs();
  EXPECT_EQ(read_at(fd, 0, 100), "created");
  const int append = ::open(a("f").c_str(), O_WRONLY | O_APPEND);
  EXPECT_EQ(::write(append, " more", 5), 5);
  EXPECT_EQ(::ftruncate(fd, 8192), 0);
  const int direct = ::open(a("f").c_str(), O_RDONLY | O_DIRECT);
  void* block = nullptr;
  ASSERT_EQ(::posix_memalign(&block, 4096, 4096), 0);
  EXPECT_EQ(::pread(direct, block, 4096, 0), 4096) << std::strerror(errno);
  EXPECT_EQ(std::memcmp(block, "created more", 12), 0);
  std::free(block);
  Mapping mapping(fd);
  ASSERT_TRUE(mapping.valid()) << std::strerror(errno);
  mapping.store('C');
  EXPECT_EQ(mapping.sync(), 0);
  EXPECT_EQ(read_at(fd, 0, 7), "Created");
  EXPECT_EQ(::lseek(fd, 0, SEEK_HOLE) > 0, true);
  EXPECT_EQ(::fsync(fd), 0) << std::strerror(errno);
  EXPECT_EQ(data_requests(), 0u);
  const auto operations = volume_.brick_status(0)["operations"];
  EXPECT_FALSE(operations.contains("read") || operations.contains("write")) << operations.dump(1);
  EXPECT_GE(volume_.mount_status(0)["passthrough"]["opens"].get<uint64_t>(), 3u);

  for (const int each : {fd, append, direct}) ::close(each);
  mapping.unmap();
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return descriptors("held") == 0 && nothing_is_pinned(); }))
      << volume_.brick_status(0).dump(1);
  EXPECT_EQ(volume_.mount_status(0)["passthrough"]["files"].get<int>(), 0);
}

TEST_F(Passthrough, OpensForReading_OneAfterTheOther_AllWork) {
  ::close(make(a("f"), "text"));
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return nothing_is_pinned(); }));
  for (int i = 0; i < 5; i++) {  // what the kernel has of it counts as current from the second time on
    const int fd = ::open(a("f").c_str(), O_RDONLY);
    ASSERT_GE(fd, 0) << std::strerror(errno);
    EXPECT_EQ(read_at(fd, 0, 10), "text");
    ::close(fd);
  }
  EXPECT_EQ(data_requests(), 0u);
}

TEST_F(Passthrough, Option_Off_DataGoesThroughTheDaemon) {
  const std::string c = volume_.mount("passthrough=off");
  const int fd = make(c + "/f", "text");
  EXPECT_EQ(read_at(fd, 0, 10), "text");
  ::close(fd);
  EXPECT_GT(data_requests(2), 0u);
  EXPECT_FALSE(volume_.mount_status(2)["passthrough"]["on"].get<bool>());
  EXPECT_EQ(descriptors("handed_out"), 0u);
}

TEST_F(Passthrough, WithIoUring_BothAreInUse) {
  std::string enabled;
  std::ifstream("/sys/module/fuse/parameters/enable_uring") >> enabled;
  EXPECT_EQ(volume_.mount_status(0)["over_io_uring"].get<bool>(), enabled == "Y" || enabled == "1");
  ::close(make(a("f"), "text"));
  EXPECT_EQ(data_requests(), 0u);
}

TEST_F(Passthrough, EachWrite_IsThereForTheOtherMountAtOnce) {
  const int writer = make(a("f"), "");
  const int reader = ::open(b("f").c_str(), O_RDONLY);
  ASSERT_GE(reader, 0);
  std::string all;
  for (int i = 0; i < 60; i++) {
    const std::string line = "line " + std::to_string(i) + "\n";
    ASSERT_EQ(::pwrite(writer, line.data(), line.size(), static_cast<off_t>(all.size())), static_cast<ssize_t>(line.size()));
    all += line;
    ASSERT_EQ(size_of(b("f")), static_cast<off_t>(all.size())) << i;
    ASSERT_EQ(size_of(a("f")), static_cast<off_t>(all.size())) << i;
    ASSERT_EQ(read_at(reader, 0, 4096), all) << i;
  }
  for (int i = 0; i < 60; i++) {  // of the same size
    const std::string number = std::to_string(1000 + i);
    ASSERT_EQ(::pwrite(writer, number.data(), 4, 0), 4);
    ASSERT_EQ(read_at(reader, 0, 4), number) << i;
  }
  ::close(writer);
  EXPECT_EQ(read_at(reader, 0, 4), "1059");
  ::close(reader);
  EXPECT_EQ(data_requests(), 0u);
}

TEST_F(Passthrough, WritesOfTheOtherMount_AreThereAtOnce) {
  const int fd = make(a("f"), "0000"), other = ::open(b("f").c_str(), O_RDWR);
  Mapping mapping(fd);
  ASSERT_TRUE(mapping.valid());
  for (int i = 0; i < 60; i++) {
    const std::string number = std::to_string(1000 + i);
    ASSERT_EQ(::pwrite(other, number.data(), 4, 4 * i), 4);
    ASSERT_EQ(read_at(fd, 4 * i, 10), number) << i;
    ASSERT_EQ(size_of(a("f")), 4 * (i + 1));
    ASSERT_EQ(::pwrite(other, &"abc"[i % 3], 1, 0), 1);
    ASSERT_EQ(mapping.load(), "abc"[i % 3]);
  }
  ::close(fd), ::close(other);
  EXPECT_EQ(data_requests(), 0u);
}

// A store changes the modification time only when its page is clean; so times tell the other mount nothing.
TEST_F(Passthrough, MappedStores_Synced_AreReadByTheOtherMount) {
  const int fd = make(a("f"), "0"), other = ::open(b("f").c_str(), O_RDONLY);
  Mapping mapping(fd);
  ASSERT_TRUE(mapping.valid());
  for (char c = 'a'; c <= 'z'; c++) {
    mapping.store(c);
    ASSERT_EQ(read_at(other, 0, 1), std::string(1, c));
  }
  ::close(fd), ::close(other);
}

TEST_F(Passthrough, Mapping_ThatOutlivesItsOpen_IsStillCoherent) {
  const int fd = make(a("f"), "0"), other = ::open(b("f").c_str(), O_RDONLY);
  Mapping mapping(fd);
  ASSERT_TRUE(mapping.valid());
  ::close(fd);
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return descriptors("held") == 0; }));
  for (char c = 'a'; c <= 'z'; c++) {
    mapping.store(c);
    ASSERT_EQ(read_at(other, 0, 1), std::string(1, c));
    ASSERT_EQ(descriptors("pinned"), 1u);
  }
  mapping.unmap();
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return nothing_is_pinned(); })) << volume_.brick_status(0).dump(1);
  // And from then on it may be kept again.
  const auto asked = [this] { return volume_.requests(1, "getattr") + volume_.requests(1, "lookup") + volume_.requests(1, "statx"); };
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] {
    const uint64_t before = asked();
    for (int i = 0; i < 10; i++) size_of(b("f"));
    return asked() == before;
  }));
  ::close(other);
}

TEST_F(Passthrough, ModificationTime_AfterAStore_IsNewAtOnce) {
  ::close(make(a("f"), "0"));
  const timespec old[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, a("f").c_str(), old, 0), 0);
  struct stat found{};
  ASSERT_EQ(::stat(a("f").c_str(), &found), 0);
  ASSERT_EQ(found.st_mtim.tv_sec, 1000);
  const int fd = ::open(a("f").c_str(), O_RDWR);
  Mapping mapping(fd);
  mapping.store('x');
  ASSERT_EQ(::stat(a("f").c_str(), &found), 0);
  EXPECT_GT(found.st_mtim.tv_sec, 1000);
  ASSERT_EQ(::stat(b("f").c_str(), &found), 0);
  EXPECT_GT(found.st_mtim.tv_sec, 1000);
  ::close(fd);
}

TEST_F(Passthrough, SizeChanges_OfEitherMount_AreSeenByBoth) {
  const int fd = make(a("f"), std::string(8192, 'x')), other = ::open(b("f").c_str(), O_RDWR);
  ASSERT_EQ(::ftruncate(other, 3), 0);
  struct stat found{};
  ASSERT_EQ(::fstat(fd, &found), 0);
  EXPECT_EQ(found.st_size, 3);
  EXPECT_EQ(::lseek(fd, 0, SEEK_END), 3);
  EXPECT_EQ(read_at(fd, 0, 10), "xxx");
  ::close(::open(b("f").c_str(), O_WRONLY | O_TRUNC));
  EXPECT_EQ(size_of(a("f")), 0);
  ASSERT_EQ(::posix_fallocate(fd, 0, 1 << 20), 0);
  EXPECT_EQ(size_of(b("f")), 1 << 20);
  ASSERT_EQ(::pwrite(fd, "data", 4, 0), 4);
  EXPECT_EQ(read_at(other, 0, 4), "data");
  ASSERT_EQ(::fallocate(other, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0) << std::strerror(errno);
  EXPECT_EQ(read_at(fd, 0, 4), std::string(4, 0));
  ASSERT_EQ(::ftruncate(fd, 5), 0);
  EXPECT_EQ(size_of(b("f")), 5);
  EXPECT_EQ(::lseek(other, 0, SEEK_END), 5);
  const int truncating = ::open(a("f").c_str(), O_RDWR | O_TRUNC);
  EXPECT_EQ(size_of(b("f")), 0);
  EXPECT_EQ(read_at(other, 0, 10), "");
  for (const int each : {fd, other, truncating}) ::close(each);
  EXPECT_EQ(data_requests(), 0u);
}

// The kernel lets the owner change a file, and goes by the one that it knows.
TEST_F(Passthrough, Owner_ChangedByTheOtherMountWhileOpen_IsKnownAtOnce) {
  const auto as_user = [](uid_t user, const std::string& path) {
    const pid_t child = ::fork();
    if (child == 0) {
      if (::setresgid(user, user, user) != 0 || ::setresuid(user, user, user) != 0) ::_exit(255);
      ::_exit(::chmod(path.c_str(), 0600) == 0 ? 0 : errno);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WEXITSTATUS(status);
  };
  ASSERT_EQ(::chmod(a_.c_str(), 0755), 0);
  const int fd = ::open(a("f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644);
  ASSERT_GE(fd, 0);
  for (const auto& [by, other] : {std::pair(a("f"), b("f")), std::pair(b("f"), a("f"))}) {
    for (const uid_t user : {kUser, kUser + 1}) {
      EXPECT_GE(size_of(other), 0);  // its kernel knows the name, and the owner so far
      ASSERT_EQ(::chown(by.c_str(), user, user), 0);
      EXPECT_EQ(as_user(user, other), 0) << other;
      EXPECT_EQ(as_user(user + 10, other), EPERM) << other;
    }
  }
  ::close(fd);
}

TEST_F(Passthrough, Unlinked_ByTheOtherMount_StaysReadable) {
  const int fd = make(a("f"), "here");
  ASSERT_EQ(::unlink(b("f").c_str()), 0);
  struct stat found{};
  ASSERT_EQ(::fstat(fd, &found), 0);
  EXPECT_EQ(found.st_nlink, 0u);
  EXPECT_EQ(::pwrite(fd, "still", 5, 0), 5);
  EXPECT_EQ(read_at(fd, 0, 10), "still");
  ::close(fd);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return descriptors("held") == 0 && nothing_is_pinned(); }));
}

TEST_F(Passthrough, CopyFileRange_BetweenSuchFiles) {
  const int from = make(a("from"), "some text"), to = make(a("to"), "");
  off_t in = 5, out = 0;
  ASSERT_EQ(::copy_file_range(from, &in, to, &out, 100, 0), 4) << std::strerror(errno);
  EXPECT_EQ(read_at(to, 0, 100), "text");
  const int other = ::open(b("to").c_str(), O_RDONLY);
  EXPECT_EQ(read_at(other, 0, 100), "text");
  for (const int each : {from, to, other}) ::close(each);
}

TEST_F(Passthrough, SuidSgid_AreTakenAwayByAWrite_AndSuchFilesStayOut) {
  ::close(make(a("f"), "program"));
  ASSERT_EQ(::chmod(a("f").c_str(), 06777), 0);
  EXPECT_EQ(as_user([&] {
    const int fd = ::open(a("f").c_str(), O_WRONLY);
    return fd >= 0 && ::write(fd, "x", 1) == 1 ? 0 : errno;
  }), 0);
  EXPECT_EQ(volume_.requests(0, "write"), 1u);
  EXPECT_EQ(mode_of(a("f")), 0777u);
  EXPECT_EQ(mode_of(b("f")), 0777u);
  // Root's write takes nothing away.
  ASSERT_EQ(::chmod(a("f").c_str(), 06777), 0);
  const int fd = ::open(a("f").c_str(), O_WRONLY);
  EXPECT_EQ(::write(fd, "x", 1), 1);
  ::close(fd);
  EXPECT_EQ(mode_of(a("f")), 06777u);
  ASSERT_EQ(::truncate(a("f").c_str(), 1), 0);
}

TEST_F(Passthrough, SuidGivenWhileOpen_IsTakenAwayByAWrite) {
  ::close(make(a("f"), "program"));
  ASSERT_EQ(::chmod(a("f").c_str(), 0777), 0);
  EXPECT_EQ(as_user([&] {
    const int fd = ::open(a("f").c_str(), O_WRONLY);
    if (fd < 0) return 1;
    return ::write(fd, "x", 1) == 1 ? 0 : 2;
  }), 0);
  const int fd = ::open(a("f").c_str(), O_WRONLY);
  ASSERT_EQ(::chmod(b("f").c_str(), 04777), 0);
  EXPECT_EQ(mode_of(a("f")), 04777u);
  EXPECT_EQ(as_user([&] { return ::write(fd, "y", 1) == 1 ? 0 : errno; }), 0);
  EXPECT_EQ(mode_of(a("f")), 0777u);
  EXPECT_EQ(mode_of(b("f")), 0777u);
  // A second open, now beside the first: written by way of the brick.
  ASSERT_EQ(::chmod(b("f").c_str(), 04777), 0);
  EXPECT_EQ(as_user([&] {
    const int beside = ::open(a("f").c_str(), O_RDWR);
    if (beside < 0 || ::pwrite(beside, "z", 1, 0) != 1) return errno;
    char byte = 0;
    return ::pread(beside, &byte, 1, 0) == 1 && byte == 'z' ? 0 : 250;
  }), 0);
  EXPECT_EQ(mode_of(a("f")), 0777u);
  EXPECT_EQ(volume_.requests(0, "write"), 1u);
  EXPECT_EQ(::fsync(fd), 0);
  ::close(fd);
}

TEST_F(Passthrough, FileCapability_IsTakenAwayByAWrite) {
  ::close(make(a("f"), "program"));
  vfs_cap_data capability{};
  capability.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  capability.data[0].permitted = 1u << CAP_NET_RAW;
  ASSERT_EQ(::setxattr(a("f").c_str(), "security.capability", &capability, sizeof capability, 0), 0) << std::strerror(errno);
  const int fd = ::open(a("f").c_str(), O_WRONLY);
  EXPECT_EQ(::write(fd, "x", 1), 1);
  ::close(fd);
  char value[64];
  EXPECT_EQ(::getxattr(a("f").c_str(), "security.capability", value, sizeof value), -1);
  EXPECT_EQ(errno, ENODATA);
  EXPECT_EQ(volume_.requests(0, "write"), 1u);
}

TEST_F(Passthrough, RlimitFsize_HoldsForTheApplication) {
  const int fd = make(a("f"), "");
  EXPECT_EQ(as_user([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit{4, 4};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    if (::pwrite(fd, "123456", 6, 0) != 4) return 2;
    return ::pwrite(fd, "7", 1, 4) < 0 && errno == EFBIG ? 0 : 3;
  }), 0);
  EXPECT_EQ(size_of(b("f")), 4);
  ::close(fd);
}

TEST_F(Passthrough, OpensOfAllKinds_OfOneFile_NeverFail) {
  ::close(make(a("f"), std::string(16384, 'x')));
  std::atomic<bool> stop = false;
  std::atomic<int> failures = 0;
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 6; seed++) {
    threads.emplace_back([&, seed] {
      std::mt19937 random(seed);
      alignas(4096) static thread_local char buffer[4096];
      for (int i = 0; i < 400; i++) {
        const int kinds[] = {O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_APPEND, O_RDONLY | O_DIRECT, O_RDWR | O_DIRECT};
        const int flags = kinds[random() % std::size(kinds)];
        const int fd = ::open((random() % 4 ? a("f") : b("f")).c_str(), flags);
        const bool writes = (flags & O_ACCMODE) != O_RDONLY && !(flags & O_APPEND);
        const ssize_t done = fd < 0 ? -1 : writes ? ::pwrite(fd, buffer, sizeof buffer, 4096) : ::lseek(fd, 0, SEEK_CUR) + 1;
        if (done < 1 || ((flags & O_ACCMODE) != O_WRONLY && ::pread(fd, buffer, sizeof buffer, 0) != sizeof buffer)) {
          failures++;
          ADD_FAILURE() << "flags " << std::oct << flags << ": " << std::strerror(errno);
        }
        ::close(fd);
      }
    });
  }
  std::thread toggle([&] {  // keeps opens out, now and then
    while (!stop) ::chmod(b("f").c_str(), 04777), ::chmod(b("f").c_str(), 0777);
  });
  for (auto& thread : threads) thread.join();
  stop = true;
  toggle.join();
  EXPECT_EQ(failures, 0) << volume_.logs();
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return descriptors("held") == 0 && nothing_is_pinned(); })) << volume_.brick_status(0).dump(1);
}

// What open(2) and the first write(2) of a new file ask besides is known by the answer to the create, though nobody may keep the
// file's attributes.
TEST_F(Passthrough, NewFile_CostsOneRequest_AndShowsWhatOthersDo) {
  const auto asked = [&](const char* operation) {
    const auto operations = volume_.brick_status(0)["operations"];
    return operations.contains(operation) ? operations[operation]["count"].get<uint64_t>() : 0;
  };
  const uint64_t getattrs = asked("getattr"), getxattrs = asked("getxattr");
  const int fd = make(a("f"), "text");
  EXPECT_EQ(asked("getattr"), getattrs);
  EXPECT_EQ(asked("getxattr"), getxattrs);
  struct stat found{};
  ASSERT_EQ(::chmod(b("f").c_str(), 0600), 0);
  ASSERT_EQ(::fstat(fd, &found), 0);
  EXPECT_EQ(found.st_mode & 07777, 0600u);
  EXPECT_EQ(found.st_size, 4);

  vfs_cap_data capability{};
  capability.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
  ASSERT_EQ(::setxattr(b("f").c_str(), "security.capability", &capability, sizeof capability, 0), 0) << std::strerror(errno);
  char value[64];
  EXPECT_GT(::getxattr(a("f").c_str(), "security.capability", value, sizeof value), 0) << std::strerror(errno);
  ASSERT_EQ(::pwrite(fd, "more", 4, 0), 4);
  EXPECT_EQ(::getxattr(a("f").c_str(), "security.capability", value, sizeof value), -1);
  EXPECT_EQ(::getxattr(b("f").c_str(), "security.capability", value, sizeof value), -1);
  ::close(fd);
}

using PassthroughFault = Passthrough;

TEST_F(PassthroughFault, BrickDown_DataGoesOn_AndTheFileIsPinnedAgain) {
  const int fd = make(a("f"), "before");
  ASSERT_EQ(descriptors("pinned"), 1u);
  volume_.kill_brick(0);
  EXPECT_EQ(::pwrite(fd, "during", 6, 0), 6);
  EXPECT_EQ(read_at(fd, 0, 10), "during");
  volume_.start_brick(0);
  ASSERT_TRUE(wait_until(60'000, [&] { return descriptors("pinned") == 1; })) << volume_.logs();
  const int other = ::open(b("f").c_str(), O_RDONLY);
  EXPECT_EQ(read_at(other, 0, 10), "during");
  for (int i = 0; i < 20; i++) {
    const std::string number = std::to_string(100 + i);
    ASSERT_EQ(::pwrite(fd, number.data(), 3, 0), 3);
    ASSERT_EQ(read_at(other, 0, 3), number);
  }
  EXPECT_EQ(::fsync(fd), 0) << std::strerror(errno);
  ::close(fd), ::close(other);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return descriptors("held") == 0 && nothing_is_pinned(); })) << volume_.brick_status(0).dump(1);
}

}  // namespace
}  // namespace voldfs::test
