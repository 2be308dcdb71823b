#pragma once

#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "brick/server/lock_table.h"
#include "brick/server/operation.h"
#include "brick/store/attr.h"
#include "brick/store/credentials.h"
#include "brick/store/handle.h"
#include "brick/store/open_files.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "brick/wire/status.h"
#include "tests/unit/brick/store/scratch_directory.h"

namespace voldfs::server {

// A brick that is a volume of its own, in a scratch directory, whose operations are called directly.
class TestBrick {
 public:
  struct Answer {
    int status = 0;
    wire::ReplyBuilder reply;
    std::vector<Intent> notes;   // that were written before the change

    template <class Body>
    Body body() const {
      Body out{};
      EXPECT_EQ(sizeof out, reply.header.body_size);
      std::memcpy(&out, reply.body.data(), std::min<size_t>(sizeof out, reply.header.body_size));
      return out;
    }
    std::string text() const {   // the payload
      if (!reply.data.empty()) return {reinterpret_cast<const char*>(reply.data.data()), reply.data.size()};
      return {reinterpret_cast<const char*>(reply.data_room.data()), reply.header.data_size};
    }
  };
  struct Caller {
    uint32_t uid = 0, gid = 0, umask = 0;
    uint64_t session = 1;
    uint16_t flags = 0;
  };

  TestBrick() {
    store::RootScope root;
    EXPECT_EQ(0, ::mkdir(path().c_str(), 0755));
    const std::string map = scratch_ / "map.json";
    std::ofstream(map) << R"({"format": 1, "volume": {"id": ")" << volume_.hex() << R"(", "name": "test"},)"
                       << R"("incarnation": ")" << Id::random().hex() << R"(", "version": 1, "root_home": 1,)"
                       << R"("bricks": [{"id": ")" << brick_.hex() << R"(", "ordinal": 1, "path": ")" << path()
                       << R"("}], "layouts": [{"epoch": 1}]})";
    std::ofstream(map + ".secret") << std::string(64, 'a') << "\n";
    options_.path = path(), options_.map_file = map, options_.init = true, options_.min_free_percent = 0;
    start();
  }

  void start() {
    auto store = store::Store::open(options_);
    if (!store) ADD_FAILURE() << store.error();
    store_ = store ? std::move(*store) : nullptr;
  }
  // As the brick's process would stop and start; what was open is forgotten.
  void restart() {
    store_.reset();
    start();
  }

  store::Store& store() { return *store_; }
  std::string path() const { return scratch_ / "brick"; }
  std::string operator/(const std::string& name) const { return path() + "/" + name; }

  // Gives an entry of the brick's tree an id and tells how a client would name it.
  wire::ObjectRef refer(const std::string& name) {
    store::RootScope root;
    auto id = store::get_id_at(store_->root(), name.c_str());
    if (!id) {
      id = Id::random();
      EXPECT_TRUE(store::set_id_at(store_->root(), name.c_str(), *id).has_value());
    }
    auto attr = store::get_attr_at(store_->root(), name.c_str());
    EXPECT_TRUE(attr.has_value());
    auto handle = store_->handles().make_at(store_->root(), name.c_str(), *id, store::type_of_mode(attr->mode));
    EXPECT_TRUE(handle.has_value());
    return {*id, *handle};
  }
  wire::ObjectRef make_file(const std::string& name, std::string_view content = {}, mode_t mode = 0644) {
    store::RootScope root;
    std::ofstream(*this / name) << content;
    EXPECT_EQ(0, ::chmod((*this / name).c_str(), mode));
    return refer(name);
  }

  template <class Body>
  Answer call(wire::Op op, const Body& body, std::string_view name, std::string_view data, const Caller& caller) {
    wire::RequestView view;
    view.header.op = static_cast<uint16_t>(op);
    view.header.body_size = sizeof body;
    view.header.uid = caller.uid, view.header.gid = caller.gid, view.header.umask = caller.umask;
    view.header.flags = caller.flags;
    view.body = reinterpret_cast<const std::byte*>(&body);
    view.name = name;
    view.data = std::as_bytes(std::span(data));
    return run(view, caller);
  }
  template <class Body>
  Answer call(wire::Op op, const Body& body, std::string_view name = {}, std::string_view data = {}) {
    return call(op, body, name, data, Caller{});
  }
  // With both texts, as operations on two names have them.
  template <class Body>
  Answer call_names(wire::Op op, const Body& body, std::string_view name, std::string_view name2) {
    wire::RequestView view;
    view.header.op = static_cast<uint16_t>(op);
    view.header.body_size = sizeof body;
    view.body = reinterpret_cast<const std::byte*>(&body);
    view.name = name, view.name2 = name2;
    return run(view, Caller{});
  }

  // The status alone; may be called by several threads at once.
  template <class Body>
  int call_alone(wire::Op op, const Body& body, std::string_view name) {
    wire::RequestView view;
    view.header.op = static_cast<uint16_t>(op);
    view.header.body_size = sizeof body;
    view.body = reinterpret_cast<const std::byte*>(&body);
    view.name = name;
    wire::ReplyBuilder reply;
    std::vector<Intent> intents;
    Notes notes(intents, nullptr);
    Call call{view, reply, *store_, locks_, nullptr, 1, Id{}, notes};
    auto done = find_operation(op)->handler(call);
    return done ? 0 : done.error().code;
  }

  // Where the next intents are noted too: memory that outlives a process that is killed. `reserved` 1: it is done.
  Intent* shared_note = nullptr;
  void stop() { store_.reset(); }

 private:
  struct Notes : IntentNote {
    Notes(std::vector<Intent>& out, Intent* shared) : out_(out), shared_(shared) {}
    void write(const Intent& intent) override {
      out_.push_back(intent);
      if (shared_) *shared_ = intent;
    }
    void done(wire::ReplyBuilder&) override {
      if (shared_) shared_->reserved = 1;
    }
    std::vector<Intent>& out_;
    Intent* shared_;
  };

  Answer run(const wire::RequestView& view, const Caller& caller) {
    Answer answer;
    room_.push_back(std::make_unique<std::vector<std::byte>>(wire::kDataMax));
    answer.reply.data_room = *room_.back();
    Notes notes(answer.notes, shared_note);
    Call call{view, answer.reply, *store_, locks_, nullptr, caller.session, Id{}, notes};
    const Operation* operation = find_operation(view.op());
    if (!operation) {
      ADD_FAILURE() << "no operation " << view.header.op;
      return answer;
    }
    auto done = operation->handler(call);
    answer.status = done ? 0 : done.error().code;
    return answer;
  }

  store::ScratchDirectory scratch_;
  const Id volume_ = Id::random(), brick_ = Id::random();
  store::StoreOptions options_;
  std::unique_ptr<store::Store> store_;
  LockTable locks_{[](uint64_t, const wire::LockBody&, int) {}};
  std::vector<std::unique_ptr<std::vector<std::byte>>> room_;  // of all answers: they borrow it
};

}  // namespace voldfs::server
