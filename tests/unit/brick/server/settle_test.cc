#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <functional>
#include <new>

#include "brick/store/subdirectories.h"
#include "tests/unit/brick/server/names_fixture.h"

namespace voldfs::server {
namespace {

// An operation that is killed at every one of its system calls, before and after it, in a process of its own; then the brick
// starts again, settles what was noted, and the client sends the request again if it did not happen.
class SettleFault : public NamesTest {
 protected:
  SettleFault() {
    void* memory = ::mmap(nullptr, sizeof(Intent), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(MAP_FAILED, memory);
    note_ = new (memory) Intent();
  }
  ~SettleFault() override { ::munmap(note_, sizeof(Intent)); }

  // Runs `change` in a child, killed at its system call stop `stop`. False: it ended before that.
  bool killed_at(int stop, const std::function<void()>& change) {
    *note_ = Intent();
    brick_.stop();
    const pid_t child = ::fork();
    if (child == 0) {
      brick_.start();
      brick_.shared_note = note_;
      ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      ::raise(SIGSTOP);
      change();
      ::_exit(0);
    }
    int status = 0;
    EXPECT_EQ(child, ::waitpid(child, &status, 0));
    EXPECT_TRUE(WIFSTOPPED(status));
    for (int i = 0; i < stop && WIFSTOPPED(status); ++i) {
      ::ptrace(PTRACE_SYSCALL, child, nullptr, nullptr);
      ::waitpid(child, &status, 0);
    }
    const bool alive = WIFSTOPPED(status);
    if (alive) {
      ::kill(child, SIGKILL);
      ::waitpid(child, &status, 0);
    }
    brick_.start();
    return alive;
  }

  // What the brick makes of it at its start.
  Settled settle(wire::ReplyBuilder& reply) {
    if (note_->op == 0) return Settled::kDidNot;
    const Settled outcome = note_->reserved ? Settled::kHappened : settle_intent(brick_.store(), 1, *note_, reply);
    if (note_->counts) {
      for (const Id& id : {note_->dir, note_->dir2}) {
        auto dir = brick_.store().directories().find(id);
        if (!dir) continue;
        EXPECT_TRUE(store::recount_subdirectories(**dir));
      }
    }
    return outcome;
  }

  // Each round: `prepare`, `change` cut at the next stop, settled, repeated if it did not happen, `check`.
  void cut_everywhere(const std::function<void(int)>& prepare, const std::function<Answer(int)>& change,
                      const std::function<void(int)>& check) {
    int happened = 0, did_not = 0;
    bool notes = false;
    for (int stop = 1;; ++stop) {
      ASSERT_LT(stop, kStopsMax);
      SCOPED_TRACE("stop " + std::to_string(stop));
      prepare(stop);
      const bool alive = killed_at(stop, [&] { change(stop); });
      wire::ReplyBuilder reply;
      notes |= note_->op != 0;
      const Settled outcome = settle(reply);
      ASSERT_NE(Settled::kUnknown, outcome);
      (outcome == Settled::kHappened ? happened : did_not) += 1;
      if (outcome == Settled::kDidNot) {
        ASSERT_EQ(0, change(stop).status);
      }
      check(stop);
      if (HasFailure() || !alive) break;
    }
    EXPECT_EQ(notes, happened > 0);
    EXPECT_GT(did_not, 0);
  }
  static std::string numbered(const char* name, int n) { return name + std::to_string(n); }

  static constexpr int kStopsMax = 1000;
  Intent* note_;
};

TEST_F(SettleFault, Create_CutAnywhere_IsThereOnce) {
  Id id;
  cut_everywhere([&](int) { id = Id::random(); },
                 [&](int n) { return create(numbered("file", n), O_RDWR | O_EXCL, id); },
                 [&](int n) { EXPECT_EQ(id, id_at(numbered("file", n))); });
}

TEST_F(SettleFault, Mkdir_CutAnywhere_IsThereOnce) {
  Id id;
  cut_everywhere([&](int) { id = Id::random(); }, [&](int n) { return mkdir(numbered("dir", n), id); },
                 [&](int n) {
                   EXPECT_EQ(static_cast<uint32_t>(n), subdirectories(kRootId));
                   EXPECT_EQ(id, id_at(numbered("dir", n)));
                   EXPECT_EQ(0, create("file", O_RDWR, Id::random(), id).status);
                 });
}

TEST_F(SettleFault, Unlink_CutAnywhere_TakesThatFileOnly) {
  cut_everywhere([&](int n) { created(numbered("file", n)); }, [&](int n) { return unlink(numbered("file", n)); },
                 [&](int n) { EXPECT_EQ(ENOENT, lookup(numbered("file", n)).status); });
}

TEST_F(SettleFault, Rename_OverAFile_CutAnywhere_LeavesTheNewOne) {
  Id id;
  cut_everywhere(
      [&](int n) {
        created(numbered("target", n));
        id = created(numbered("source", n));
      },
      [&](int n) { return rename(numbered("source", n), numbered("target", n)); },
      [&](int n) {
        EXPECT_EQ(id, id_at(numbered("target", n)));
        EXPECT_EQ(ENOENT, lookup(numbered("source", n)).status);
      });
}

TEST_F(SettleFault, Rename_OverADirectory_CutAnywhere_LeavesTheNewOne) {
  Id id, replaced;
  const Id to = made("to");
  cut_everywhere(
      [&](int n) {
        replaced = made(numbered("target", n), to);
        id = made(numbered("source", n));
      },
      [&](int n) { return rename(numbered("source", n), numbered("target", n), 0, kRootId, to, id); },
      [&](int n) {
        const auto entry = lookup(numbered("target", n), to).body<wire::EntryBody>();
        EXPECT_EQ(id, entry.object.id);
        EXPECT_EQ(to, entry.dir.parent);
        EXPECT_EQ(1u, subdirectories(kRootId));
        EXPECT_EQ(static_cast<uint32_t>(n), subdirectories(to));
        EXPECT_EQ(wire::kDirRemoved, create("late", O_RDWR, Id::random(), replaced).status);
      });
}

TEST_F(SettleFault, Rmdir_CutAnywhere_LeavesATombstone) {
  Id id;
  cut_everywhere([&](int n) { id = made(numbered("dir", n)); }, [&](int n) { return rmdir(numbered("dir", n), id); },
                 [&](int n) {
                   EXPECT_EQ(ENOENT, lookup(numbered("dir", n)).status);
                   EXPECT_EQ(0u, subdirectories(kRootId));
                   EXPECT_EQ(wire::kDirRemoved, create("late", O_RDWR, Id::random(), id).status);
                 });
}

// The old name is a directory's home here, the new one its stub (as if on another brick), over another directory.
TEST_F(SettleFault, CommitAndLeave_OfADirectory_CutAnywhere_CountsOnce) {
  const Id to = made("to");
  wire::TxnRecord record{};
  const auto prepare = [&](int n) {
    record = {};
    record.txn = Id::random();
    record.kind = wire::TxnKind::kRename;
    record.from = {kRootId, brick_.store().identity().brick};
    record.to = {to, brick_.store().identity().brick};
    record.object.object = made(numbered("source", n));
    record.replaced.object = made(numbered("target", n), to);
    record.object.brick = record.replaced.brick = brick_.store().identity().brick;
    record.object.type = record.replaced.type = wire::ObjectType::kDirectory;
    record.object.state = wire::LinkState::kPending;
    record.object.txn = record.txn;
    EXPECT_EQ(0, brick_.call_names(Op::kTxnPrepare, record, numbered("source", n), numbered("target", n)).status);
    const wire::MarkBody mark{ref(kRootId), record.txn, record.to.brick, record.object.object};
    EXPECT_EQ(0, brick_.call(Op::kTxnMark, mark, numbered("source", n)).status);
  };
  const auto commit = [&](int) {
    wire::TxnRef txn{};
    txn.txn = record.txn, txn.state = wire::TxnState::kCommitted;
    return brick_.call(Op::kTxnCommit, txn);
  };
  const auto leave = [&](int n) {
    const wire::MarkBody mark{ref(kRootId), record.txn, record.to.brick, record.object.object};
    return brick_.call(Op::kTxnLeave, mark, numbered("source", n));
  };
  int rounds = 0;
  cut_everywhere(prepare, commit, [&](int n) {
    EXPECT_EQ(wire::EntryKind::kStub, lookup(numbered("target", n), to).body<wire::EntryBody>().kind);
    EXPECT_EQ(static_cast<uint32_t>(n), subdirectories(to));
    EXPECT_EQ(2u, subdirectories(kRootId));  // "to", and the old name until it is left
    EXPECT_EQ(0, leave(n).status);
    EXPECT_EQ(1u, subdirectories(kRootId));
    rounds = n;
  });
  cut_everywhere(
      [&](int n) {
        prepare(n + rounds);
        EXPECT_EQ(0, commit(n).status);
      }, [&](int n) { return leave(n + rounds); },
                 [&](int) { EXPECT_EQ(1u, subdirectories(kRootId)); });
}

TEST_F(SettleFault, Link_CutAnywhere_AddsOneName) {
  wire::ObjectRef object;
  cut_everywhere(
      [&](int n) {
        created(numbered("one", n));
        object = lookup(numbered("one", n)).body<wire::EntryBody>().object;
      },
      [&](int n) { return brick_.call(Op::kLink, wire::LinkBody{ref(kRootId), object, 0, 0, {}}, numbered("two", n)); },
      [&](int n) {
        EXPECT_EQ(object.id, id_at(numbered("two", n)));
        EXPECT_EQ(2u, lookup(numbered("one", n)).body<wire::EntryBody>().attr.nlink);
      });
}

TEST_F(SettleFault, Materialize_CutAnywhere_CanBeRepeated) {
  Id id;
  cut_everywhere([&](int) { id = Id::random(); },
                 [&](int n) {
                   return materialize(numbered("dir", n), id, wire::kRoleMember);
                 },
                 [&](int n) {
                   EXPECT_EQ(id, id_at(numbered("dir", n)));
                   EXPECT_EQ(0, create("file", O_RDWR, Id::random(), id).status);
                 });
}

// The steps of a transaction note nothing: each can be repeated.
class TxnFault : public SettleFault {
 protected:
  wire::TxnRecord prepare(const std::string& name, const wire::EntryBody& replaced) {
    wire::TxnRecord record{};
    record.txn = Id::random();
    record.from = {kRootId, Id::random()}, record.to = {kRootId, brick_.store().identity().brick};
    record.object.brick = record.from.brick, record.object.object = Id::random();
    record.object.type = replaced.type == wire::ObjectType::kNone ? wire::ObjectType::kFile : replaced.type;
    record.replaced.object = replaced.object.id, record.replaced.type = replaced.type;
    record.kind = wire::TxnKind::kRename, record.state = wire::TxnState::kPrepared;
    EXPECT_EQ(0, brick_.call_names(Op::kTxnPrepare, record, "old", name).status);
    return record;
  }
  void check_committed(const wire::TxnRecord& record, const std::string& name) {
    const auto entry = lookup(name).body<wire::EntryBody>();
    EXPECT_EQ(wire::EntryKind::kStub, entry.kind);
    EXPECT_EQ(record.object.object, entry.link.object);
    EXPECT_EQ(0, brick_.call(Op::kTxnFinish, wire::TxnRef{record.txn, {}, {}}).status);
    EXPECT_EQ(wire::LinkState::kCommitted, lookup(name).body<wire::EntryBody>().link.state);
    EXPECT_FALSE(exists(".voldfs/txn/" + record.txn.hex()) || exists(".voldfs/txn/" + record.txn.hex() + ".stub"));
  }
};

TEST_F(TxnFault, Commit_OverAFile_CutAnywhere_LeavesTheStub) {
  wire::TxnRecord record;
  cut_everywhere(
      [&](int n) {
        created(numbered("new", n));
        record = prepare(numbered("new", n), lookup(numbered("new", n)).body<wire::EntryBody>());
      },
      [&](int) { return brick_.call(Op::kTxnCommit, wire::TxnRef{record.txn, {}, {}}); },
      [&](int n) { check_committed(record, numbered("new", n)); });
}

TEST_F(TxnFault, Commit_OverADirectory_CutAnywhere_LeavesTheStub) {
  wire::TxnRecord record;
  cut_everywhere(
      [&](int n) {
        made(numbered("new", n));
        record = prepare(numbered("new", n), lookup(numbered("new", n)).body<wire::EntryBody>());
      },
      [&](int) { return brick_.call(Op::kTxnCommit, wire::TxnRef{record.txn, {}, {}}); },
      [&](int n) {
        check_committed(record, numbered("new", n));
        EXPECT_EQ(wire::kDirRemoved, create("late", O_RDWR, Id::random(), record.replaced.object).status);
      });
}

TEST_F(TxnFault, Prepare_CutAnywhere_IsPreparedOrUnknown) {
  wire::TxnRecord record{};
  cut_everywhere(
      [&](int) {
        record.txn = Id::random(), record.to = {kRootId, brick_.store().identity().brick};
        record.object.brick = record.object.object = Id::random(), record.object.type = wire::ObjectType::kFile;
        record.kind = wire::TxnKind::kPlace, record.state = wire::TxnState::kPrepared;
      },
      [&](int n) { return brick_.call_names(Op::kTxnPrepare, record, "", numbered("new", n)); },
      [&](int n) {
        EXPECT_EQ(0, brick_.call(Op::kTxnCommit, wire::TxnRef{record.txn, {}, {}}).status);
        check_committed(record, numbered("new", n));
      });
}

TEST_F(TxnFault, Leave_CutAnywhere_KeepsTheObjectWithinReach) {
  wire::EntryBody entry;
  wire::MarkBody mark;
  cut_everywhere(
      [&](int n) {
        created(numbered("old", n));
        entry = lookup(numbered("old", n)).body<wire::EntryBody>();
        mark = {ref(kRootId), Id::random(), Id::random(), entry.object.id};
        ASSERT_EQ(0, brick_.call(Op::kTxnMark, mark, numbered("old", n)).status);
      },
      [&](int n) { return brick_.call(Op::kTxnLeave, mark, numbered("old", n)); },
      [&](int n) {
        EXPECT_EQ(ENOENT, lookup(numbered("old", n)).status);
        const wire::SettleBody body{entry.object, kRootId, kRootId, {}, mark.txn};
        EXPECT_EQ(0, brick_.call_names(Op::kSettle, body, numbered("old", n), numbered("new", n)).status);
        EXPECT_EQ(entry.object.id, id_at(numbered("new", n)));
      });
}

}  // namespace
}  // namespace voldfs::server
