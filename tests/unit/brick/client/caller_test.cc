#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>

#include "brick/client/brick_client.h"

namespace voldfs::client {
namespace {

// A process in which a signal waits: it is stopped.
class StoppedProcess {
 public:
  StoppedProcess() : pid_(::fork()) {
    if (pid_ == 0) {
      ::signal(SIGUSR1, [](int) {});
      ::raise(SIGSTOP);
      ::_exit(0);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status));
  }
  ~StoppedProcess() { end(); }
  void signal(int number) const { EXPECT_EQ(::kill(pid_, number), 0); }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  uint32_t pid() const { return static_cast<uint32_t>(pid_); }

 private:
  pid_t pid_;
};

class CallerTest : public testing::Test {
 protected:
  Caller caller(uint32_t pid) {
    Caller caller;
    caller.pid = pid;
    caller.interrupted = &interrupted_;
    caller.only_if_killed = true;
    return caller;
  }
  std::atomic<bool> interrupted_ = false;
};

TEST_F(CallerTest, DeadlySignal_IsSeen_AndGivenUpForWhenTold) {
  const StoppedProcess process;
  EXPECT_FALSE(caller(process.pid()).is_being_killed());
  process.signal(SIGQUIT);  // any other deadly one would end it at once
  EXPECT_TRUE(caller(process.pid()).is_being_killed());
  EXPECT_FALSE(caller(process.pid()).gives_up());
  interrupted_ = true;
  EXPECT_TRUE(caller(process.pid()).gives_up());
}

TEST_F(CallerTest, SignalThatItLivesOnAfter_GoesOn_ToldOrNot) {
  const StoppedProcess process;
  process.signal(SIGUSR1);
  process.signal(SIGCHLD);
  interrupted_ = true;
  EXPECT_FALSE(caller(process.pid()).gives_up());
  EXPECT_FALSE(caller(process.pid()).is_being_killed());
}

// The kernel writes back and reads ahead in the name of threads that may have gone.
TEST_F(CallerTest, ThreadThatHasGone_GivesUpIfTold) {
  StoppedProcess process;
  const uint32_t pid = process.pid();
  process.end();
  EXPECT_FALSE(caller(pid).is_being_killed());
  EXPECT_FALSE(caller(pid).gives_up());
  interrupted_ = true;
  EXPECT_TRUE(caller(pid).gives_up());
}

TEST_F(CallerTest, UnknownThread_NeverGivesUp) {
  interrupted_ = true;
  EXPECT_FALSE(caller(0).gives_up());
  EXPECT_FALSE(caller(0).is_being_killed());
}

TEST_F(CallerTest, NotOnlyIfKilled_GivesUpWhenTold) {
  Caller caller = this->caller(0);
  caller.only_if_killed = false;
  EXPECT_FALSE(caller.gives_up());
  interrupted_ = true;
  EXPECT_TRUE(caller.gives_up());
}

}  // namespace
}  // namespace voldfs::client
