#include "dht/open_file.h"

#include <fcntl.h>

#include <chrono>
#include <thread>
#include <utility>

#include "dht/file_call.h"
#include "dht/lock_waits.h"

namespace voldfs::dht {

void Durability::check(uint64_t verifier) {
  if (!unsynced_ || verifier == 0 || verifier == verifier_) return;
  losses_++;
  unsynced_ = false;
}

void Durability::note(uint64_t verifier, bool wrote) {
  std::lock_guard lock(mutex_);
  check(verifier);
  if (!wrote) return;
  writes_++;
  unsynced_ = true;
  verifier_ = verifier;
}

uint64_t Durability::begin_sync() const {
  std::lock_guard lock(mutex_);
  return writes_;
}

// Writes that were answered while the fsync was on its way may not be part of it.
void Durability::end_sync(uint64_t begun, uint64_t verifier) {
  std::lock_guard lock(mutex_);
  check(verifier);
  if (writes_ == begun) unsynced_ = false;
}

uint32_t Durability::losses() const {
  std::lock_guard lock(mutex_);
  return losses_;
}

bool Durability::is_clean() const {
  std::lock_guard lock(mutex_);
  return !unsynced_ && losses_ == 0;
}

std::shared_ptr<Durability> Node::durability() {
  std::lock_guard guard(mutex_);
  std::shared_ptr<Durability>& durability = as_file().durability;
  if (!durability) durability = std::make_shared<Durability>();
  return durability;
}

void Node::end_open(std::shared_ptr<Durability> used) {
  used.reset();
  std::lock_guard guard(mutex_);
  if (!as_file_) return;
  AsFile& file = *as_file_;
  if (file.durability && file.durability.use_count() == 1 && file.durability->is_clean()) file.durability.reset();
  if (!file.durability && !file.kernel_pages && !file.data_stamp.known && file.xattrs_changed.sequence == 0) as_file_.reset();
}

namespace {

constexpr int kOnce = O_CREAT | O_EXCL | O_TRUNC;  // flags that act when a file is opened first

}  // namespace

OpenFile::OpenFile(Volume::Impl& volume, const NodePtr& node, uint16_t brick, const wire::EntryBody& entry, const Grant& grant,
                   uint32_t flags, const Caller& opener, unique_fd descriptor)
    : volume_(volume),
      node_(node),
      brick_(brick),
      flags_(flags & ~static_cast<uint32_t>(kOnce)),
      handed_out_(descriptor.valid()),
      descriptor_(std::move(descriptor)),
      opener_([&] {
        Caller who = opener;
        who.interrupted = nullptr;  // lives no longer than the request that opens
        who.takes_descriptor = handed_out_;
        return who;
      }()),
      attr_at_open_(entry.attr),
      grant_at_open_(grant),
      number_(entry.open),
      losses_heard_(node->durability()->losses()),
      durability_(node->durability()) {}

OpenFilePtr OpenFile::make(Volume::Impl& volume, const NodePtr& node, uint16_t brick, const wire::EntryBody& entry,
                           const Grant& grant, uint32_t flags, const Caller& opener, unique_fd descriptor) {
  OpenFilePtr file(new OpenFile(volume, node, brick, entry, grant, flags, opener, std::move(descriptor)));
  volume.hold(file);
  return file;
}

OpenFile::~OpenFile() {
  close();
  node_->end_open(std::move(durability_));
}

void OpenFile::close() {
  if (!closed_.exchange(true)) volume_.drop(this);
}

Result<void> OpenFile::take_loss() {
  const uint32_t losses = durability_->losses();
  if (losses_heard_.exchange(losses) != losses) return fail(EIO);
  return {};
}

void OpenFile::renew() {
  losses_heard_.store(durability_->losses());
  sync_failed_ = false;
}

Result<void> OpenFile::reopen() {
  wire::OpenBody body{};
  body.object = volume_.object_ref(node_);
  body.flags = flags_;
  body.open = number();
  wire::Request request(wire::Op::kOpen, body);
  request.header().flags |= wire::kFlagReclaim;
  const auto reply = volume_.call(brick_, std::move(request), opener_);
  if (!reply) return fail(reply.error());
  const auto entry = reply->body<wire::EntryBody>();
  if (!entry) return fail(entry.error());
  durability_->note(reply->header.verifier, false);
  number_.store(entry->open, std::memory_order_relaxed);
  return {};
}

// A file that does not come back (removed behind our back, or its handle changed with a copied brick) is opened
// again when it is used, and that error is the user's.
bool OpenFile::reclaim(uint16_t ordinal, bool lost) {
  if (ordinal != brick_ || closed_) return true;
  if (const auto open = reopen(); !open && open.error().code == EHOSTDOWN) return false;
  return lock_waits(volume_).reclaim(*this, lost);
}

// --- Requests through an open -------------------------------------------------------------------------------

namespace {

// The brick takes no new state while others reclaim theirs. Longer than its grace period can be.
constexpr int kGraceTriesMax = 2'000;
constexpr auto kGraceDelay = std::chrono::milliseconds(50);

Result<void> wait_grace(int& tries, const Caller& caller) {
  if (++tries > kGraceTriesMax) return fail(EIO);
  if (caller.gives_up()) return fail(EINTR);
  std::this_thread::sleep_for(kGraceDelay);
  return {};
}

}  // namespace

Result<wire::Reply> call_file(Volume::Impl& volume, const OpenFilePtr& file, bool wrote, const MakeFileRequest& make,
                              const Caller& caller, std::span<std::byte> data_into) {
  bool reopened = false;
  for (int grace = 0;;) {
    auto reply = volume.call(file->brick(), make(volume.object_ref(file->node()), file->number()), caller, nullptr, data_into);
    if (reply) {
      file->durability().note(reply->header.verifier, wrote);
      return reply;
    }
    if (reply.error().code == wire::kGrace) {
      if (const auto again = wait_grace(grace, caller); !again) return fail(again.error());
    } else if (reply.error().code == wire::kOpenUnknown && !reopened) {
      reopened = true;
      if (const auto open = file->reopen(); !open) return fail(open.error().is_errno() ? open.error() : Error(ESTALE));
    } else if (!reply.error().is_errno()) {
      return fail(reply.error().code == wire::kStaleHandle ? ESTALE : EIO);
    } else {
      return reply;
    }
  }
}

Result<Entry> entry_of_node(Volume::Impl& volume, const NodePtr& node, const Result<wire::Reply>& reply, uint16_t brick) {
  if (!reply) return fail(reply.error());
  const auto body = reply->body<wire::EntryBody>();
  if (!body) return fail(body.error());
  auto entry = volume.entry_from(*body, nullptr, {}, brick, grant_of(*reply));
  if (entry && entry->node != node) return fail(ESTALE);
  if (entry && node->is_directory()) entry->attr_grants.clear();  // home's alone, not merged over the set
  return entry;
}

}  // namespace voldfs::dht
