#include "brick/store/credentials.h"

#include <grp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <atomic>
#include <thread>
#include <vector>

#include "brick/store/xattr.h"
#include "tests/unit/brick/store/scratch_directory.h"

namespace voldfs::store {
namespace {

struct stat stat_of(int fd) {
  struct stat attr{};
  EXPECT_EQ(0, ::fstat(fd, &attr));
  return attr;
}

// Runs `act` as a plain process of that user and group would: the reference that the scopes are held against.
template <class Act>
void natively_as(uid_t uid, gid_t gid, Act act) {
  RootScope whole;  // the child is to begin with all capabilities, and with setuid's usual effect on them
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const bool ready = ::prctl(PR_SET_SECUREBITS, 0) == 0 && ::setgroups(0, nullptr) == 0 &&
                       ::setresgid(gid, gid, gid) == 0 && ::setresuid(uid, uid, uid) == 0;
    ::_exit(ready && act() ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(child, ::waitpid(child, &status, 0));
  ASSERT_EQ(0, status);
}

class CredentialsTest : public testing::Test {
 protected:
  CredentialsTest() {
    RootScope whole;  // an earlier test's last caller is still in force
    EXPECT_EQ(0, ::chmod(dir_.path().c_str(), 0777));
  }
  ScratchDirectory dir_;
};

TEST_F(CredentialsTest, Create_InAScope_IsTheCallers) {
  CallerScope scope(Credentials{1000, 1001, 027});
  unique_fd fd(::openat(dir_.fd(), "file", O_CREAT | O_RDWR, 0666));
  const struct stat attr = stat_of(fd.get());
  EXPECT_EQ(1000u, attr.st_uid);
  EXPECT_EQ(1001u, attr.st_gid);
  EXPECT_EQ(0640u, attr.st_mode & 07777);
}

TEST_F(CredentialsTest, Scope_OfAnotherUser_StillReadsEverythingAndSetsTrustedAttributes) {
  auto secret = dir_.make_file("secret", 0000);
  CallerScope scope(Credentials{1000, 1000, 0});
  unique_fd fd(::openat(dir_.fd(), "secret", O_RDWR));
  ASSERT_TRUE(fd.valid());
  EXPECT_TRUE(set_id(fd.get(), Id::random()).has_value());
}

TEST_F(CredentialsTest, InnerScope_AtItsEnd_GivesTheOuterOnesBack) {
  CallerScope caller(Credentials{1000, 1000, 0});
  {
    RootScope root;
    EXPECT_EQ(0u, stat_of(unique_fd(::openat(dir_.fd(), "root", O_CREAT | O_RDWR, 0600)).get()).st_uid);
  }
  EXPECT_EQ(1000u, stat_of(unique_fd(::openat(dir_.fd(), "caller", O_CREAT | O_RDWR, 0600)).get()).st_uid);
}

TEST_F(CredentialsTest, NoCreds_IsRoot) {
  wire::RequestHeader request{};
  request.uid = request.gid = 1000, request.umask = 077, request.flags = wire::kFlagNoCreds;
  CallerScope scope(request);
  const struct stat attr = stat_of(unique_fd(::openat(dir_.fd(), "file", O_CREAT | O_RDWR, 0666)).get());
  EXPECT_EQ(0u, attr.st_uid);
  EXPECT_EQ(0666u, attr.st_mode & 07777);
}

TEST_F(CredentialsTest, ImpossibleIds_AreNeverRoots) {
  CallerScope scope(Credentials{UINT32_MAX, UINT32_MAX, 0});
  const struct stat attr = stat_of(unique_fd(::openat(dir_.fd(), "file", O_CREAT | O_RDWR, 0666)).get());
  EXPECT_EQ(65534u, attr.st_uid);
  EXPECT_EQ(65534u, attr.st_gid);
}

TEST_F(CredentialsTest, Scopes_OfManyThreads_DoNotMix) {
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 8; ++t) {
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; i < 200; ++i) {
        const uint32_t uid = i % 3 == 0 ? 0 : 2000 + 10 * t + i % 3;
        CallerScope scope(Credentials{uid, 3000 + t, t});
        const std::string name = std::to_string(t) + "." + std::to_string(i);
        unique_fd fd(::openat(dir_.fd(), name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0777));
        struct stat attr{};
        if (::fstat(fd.get(), &attr) < 0 || attr.st_uid != uid || attr.st_gid != 3000 + t ||
            (attr.st_mode & 0777) != (0777 & ~t)) {
          ++wrong;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(0, wrong);
}

TEST_F(CredentialsTest, OtherThreads_OfAScopesThread_KeepTheirIdentity) {
  std::atomic<bool> in_scope = false, seen = false;
  std::thread caller([&] {
    CallerScope scope(Credentials{1000, 1000, 077});
    in_scope = true;
    in_scope.notify_one();
    seen.wait(false);
  });
  std::thread([&] {
    in_scope.wait(false);
    EXPECT_EQ(0u, ::geteuid());
    EXPECT_EQ(0u, static_cast<unsigned>(::syscall(SYS_setfsuid, -1)));
    EXPECT_NE(077u, ::umask(022));
    seen = true;
    seen.notify_one();
  }).join();
  caller.join();
}

// What happens to suid, sgid and capabilities, by who writes: as if that user had written natively.
class PrivilegesTest : public CredentialsTest,
                       public testing::WithParamInterface<std::tuple<uid_t, gid_t, mode_t, const char*>> {
 protected:
  static bool act(int fd, std::string_view how) {
    if (how == "write") return ::pwrite(fd, "x", 1, 0) == 1;
    if (how == "truncate") return ::ftruncate(fd, 1) == 0;
    return ::fallocate(fd, 0, 0, 100) == 0;
  }
};

TEST_P(PrivilegesTest, Change_InAScope_LeavesTheModeThatItLeavesNatively) {
  const auto [uid, gid, mode, how] = GetParam();
  auto native = dir_.make_file("native"), scoped = dir_.make_file("scoped");
  for (const auto* fd : {&native, &scoped}) {
    ASSERT_EQ(0, ::fchown(fd->get(), 1000, 1000));
    ASSERT_EQ(0, ::fchmod(fd->get(), mode));
  }
  natively_as(uid, gid, [&, how = how] { return act(native.get(), how); });
  {
    CallerScope scope(Credentials{uid, gid, 0});
    ASSERT_TRUE(act(scoped.get(), how));
  }
  EXPECT_EQ(stat_of(native.get()).st_mode, stat_of(scoped.get()).st_mode);
}

INSTANTIATE_TEST_SUITE_P(ByCaller, PrivilegesTest,
                         testing::Combine(testing::Values(0, 1000, 2000), testing::Values(0, 1000, 2000),
                                          testing::Values(06755, 06644, 04755, 02755, 02745),
                                          testing::Values("write", "truncate", "allocate")));

TEST_F(CredentialsTest, Write_ByPlainRoot_TakesSuidAway) {
  auto file = dir_.make_file("file", 06755);
  {
    RootScope root;
    ASSERT_EQ(1, ::pwrite(file.get(), "x", 1, 0));
    EXPECT_EQ(06755u, stat_of(file.get()).st_mode & 07777);
  }
  CallerScope plain(Credentials{0, 0, 0, true});
  ASSERT_EQ(1, ::pwrite(file.get(), "x", 1, 0));
  EXPECT_EQ(0755u, stat_of(file.get()).st_mode & 07777);
}

TEST_F(CredentialsTest, Create_InASetgidDirectory_IsAsNatively) {
  ASSERT_EQ(0, ::mkdirat(dir_.fd(), "shared", 0777));
  unique_fd shared(::openat(dir_.fd(), "shared", O_RDONLY | O_DIRECTORY));
  ASSERT_EQ(0, ::fchown(shared.get(), 0, 5000));
  ASSERT_EQ(0, ::fchmod(shared.get(), 02777));
  natively_as(1000, 1000, [&] {
    return ::openat(shared.get(), "native", O_CREAT | O_RDWR, 02775) >= 0 && ::mkdirat(shared.get(), "native.d", 0755) == 0;
  });
  {
    wire::RequestHeader request{};
    request.uid = request.gid = 1000, request.umask = 022;
    CallerScope scope(request);
    unique_fd(::openat(shared.get(), "scoped", O_CREAT | O_RDWR, 02775));
    ASSERT_EQ(0, ::mkdirat(shared.get(), "scoped.d", 0755));
  }
  for (const char* kind : {"", ".d"}) {
    struct stat native{}, scoped{};
    ASSERT_EQ(0, ::fstatat(shared.get(), (std::string("native") + kind).c_str(), &native, 0));
    ASSERT_EQ(0, ::fstatat(shared.get(), (std::string("scoped") + kind).c_str(), &scoped, 0));
    EXPECT_EQ(native.st_gid, scoped.st_gid);
    EXPECT_EQ(native.st_uid, scoped.st_uid);
    EXPECT_EQ(native.st_mode & S_ISGID, scoped.st_mode & S_ISGID);
  }
}

}  // namespace
}  // namespace voldfs::store
