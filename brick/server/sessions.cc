#include "brick/server/sessions.h"

#include <dirent.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>

#include "brick/server/limits.h"
#include "brick/store/store.h"
#include "brick/store/subdirectories.h"
#include "brick/wire/op_info.h"

namespace voldfs::server {

namespace {

uint64_t random_session_id() {
  uint64_t id = 0;
  while (id == 0) std::memcpy(&id, Id::random().bytes.data(), sizeof id);
  return id;
}

Result<std::vector<std::string>> names_in(int dot, const char* folder) {
  const int fd = ::openat(dot, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail_errno();
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(fd), ::closedir);
  if (!dir) {
    const Error error = Error::from_errno();
    ::close(fd);
    return fail(error);
  }
  std::vector<std::string> names;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(dir.get());  // NOLINT(concurrency-mt-unsafe): a stream of our own
    if (entry == nullptr) break;
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  if (errno != 0) return fail_errno();
  return names;
}

// Of a directory whose number of subdirectories a cut operation may have left as it was.
Result<void> count_again(store::Store& store, const Id& id) {
  auto dir = store.directories().find(id);
  if (!dir) return dir.error().code == wire::kDirAbsent || dir.error().code == wire::kDirRemoved ? Result<void>() : fail(dir.error());
  return store::recount_subdirectories(**dir);
}

}  // namespace

size_t settle_slots(store::Store& store, SlotFile& file, std::set<Id>& to_count) {
  size_t settled = 0;
  for (uint32_t slot = 0; slot < file.slots(); ++slot) {
    if (file.state(slot) != SlotState::kNoted) continue;
    ++settled;
    if (file.intent(slot).counts != 0) to_count.insert({file.intent(slot).dir, file.intent(slot).dir2});
    wire::ReplyBuilder reply;
    const Settled outcome = settle_intent(store, file.header().session, file.intent(slot), reply);
    const char* word = outcome == Settled::kHappened ? "happened" : outcome == Settled::kDidNot ? "did_not" : "unknown";
    spdlog::info("slot_settled session={} slot={} operation={} outcome={}", file.header().session, slot,
                 wire::op_name(static_cast<wire::Op>(file.intent(slot).op)), word);
    if (outcome == Settled::kHappened) {
      file.finish_with(slot, static_cast<int>(reply.header.status), reply);
    } else if (outcome == Settled::kDidNot) {
      file.forget(slot);
    } else {
      wire::ReplyBuilder nothing;
      file.finish_with(slot, wire::kUnsettled, nothing);
    }
  }
  return settled;
}

Sessions::Sessions(int dot, const Id& boot, uint32_t lease_ms, CleanUp clean_up)
    : dot_(dot), boot_(boot), lease_ms_(lease_ms), clean_up_(std::move(clean_up)) {}

Result<void> Sessions::load(store::Store& store) {
  std::set<Id> to_count;  // when all is settled
  const auto names = names_in(dot_, "sessions");
  if (!names) return names.error().code == ENOENT ? Result<void>{} : fail(names.error());
  for (const std::string& name : *names) {
    auto file = SlotFile::open(dot_, boot_, name);
    if (!file && (file.error().code == ESTALE || file.error().code == EPROTO)) {
      spdlog::info("session_dropped session={} reason={}", name,
                   file.error().code == ESTALE ? "host_rebooted" : "cut_or_damaged");
      rebooted_ |= file.error().code == ESTALE;
      ++died_;
      remove_file(name);
      continue;
    }
    if (!file) return fail(file.error());
    settle_slots(store, **file, to_count);
    if ((*file)->header().client.is_adopted()) {  // it keeps nothing that it could reclaim
      remove_file(name);
      continue;
    }
    auto session = std::make_shared<Session>(std::move(*file), lease_ms_, true);
    spdlog::info("session_restored session={} client={}", session->id(), session->client().hex());
    std::lock_guard lock(mutex_);
    sessions_.emplace(session->id(), std::move(session));
  }
  for (const Id& id : to_count) {
    if (auto counted = count_again(store, id); !counted)
      spdlog::warn("subdirectories_not_counted dir={} error={}", id.hex(), counted.error().code);
  }
  return {};
}

Result<std::unique_ptr<SlotFile>> Sessions::make_file(uint64_t id, const Id& client) {
  auto file = SlotFile::create(dot_, boot_, id, client, wire::kSlotsMax);
  if (file) return file;
  spdlog::warn("session_volatile session={} error={}: a resend over a restart of the brick will not be recognized", id,
               file.error().code);
  return SlotFile::create_volatile(boot_, id, client, wire::kSlotsMax);
}

std::vector<std::shared_ptr<Session>> Sessions::ended_of(const Id& client) {
  std::vector<std::shared_ptr<Session>> found;
  std::lock_guard lock(mutex_);
  std::erase_if(ended_, [](const auto& session) { return session.expired(); });
  for (const auto& each : ended_)
    if (auto session = each.lock(); session && session->client() == client) found.push_back(std::move(session));
  return found;
}

Result<std::shared_ptr<Session>> Sessions::create(const Id& client) {
  for (const auto& earlier : ended_of(client))
    if (!earlier->await_idle(kSlotWaitMs)) return fail(EAGAIN);
  {
    std::lock_guard lock(mutex_);
    if (sessions_.size() >= kSessionsMax) return fail(EUSERS);
  }
  const uint64_t id = random_session_id();
  auto file = make_file(id, client);
  if (!file) return fail(file.error());
  auto session = std::make_shared<Session>(std::move(*file), lease_ms_, false);
  std::lock_guard lock(mutex_);
  sessions_.emplace(id, session);
  return session;
}

std::shared_ptr<Session> Sessions::find(uint64_t id, const Id& client) const {
  std::lock_guard lock(mutex_);
  const auto found = sessions_.find(id);
  if (found == sessions_.end() || found->second->client() != client || found->second->ended()) return nullptr;
  return found->second;
}

std::shared_ptr<Session> Sessions::find(uint64_t id) const {
  std::lock_guard lock(mutex_);
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second;
}

void Sessions::end(const std::shared_ptr<Session>& session) {
  {
    std::lock_guard lock(mutex_);
    if (sessions_.erase(session->id()) == 0) return;
    session->end();
    ended_.push_back(session);
  }
  if (!said_bye(session->id())) ++died_;
  clean_up_(session->id());
  if (!frozen_.load()) remove_file(std::to_string(session->id()));
}

void Sessions::remove_file(const std::string& name) {
  if (::unlinkat(dot_, ("sessions/" + name).c_str(), 0) != 0 && errno != ENOENT) {
    spdlog::warn("session_file_left session={} error={}", name, errno);
  }
}

void Sessions::note_bye(uint64_t id) {
  std::lock_guard lock(mutex_);
  byes_[id] = boottime_ms() + lease_ms_;
}

bool Sessions::said_bye(uint64_t id) const {
  std::lock_guard lock(mutex_);
  return byes_.contains(id);
}

size_t Sessions::expire() {
  const int64_t now = boottime_ms();
  {
    std::lock_guard lock(mutex_);
    std::erase_if(byes_, [now](const auto& bye) { return bye.second < now; });
  }
  size_t ended = 0;
  for (const auto& session : all()) {
    if (session->lease_end() > now) {
      session->save_lease();
      continue;
    }
    spdlog::warn("session_expired session={} client={}", session->id(), session->client().hex());
    end(session);
    ++ended;
  }
  return ended;
}

bool Sessions::all_reclaimed() const {
  std::lock_guard lock(mutex_);
  return !rebooted_ && std::none_of(sessions_.begin(), sessions_.end(), [](const auto& entry) { return entry.second->to_reclaim(); });
}

std::vector<std::shared_ptr<Session>> Sessions::all() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Session>> out;
  out.reserve(sessions_.size());
  for (const auto& [id, session] : sessions_) out.push_back(session);
  return out;
}

void Sessions::freeze() {
  frozen_.store(true);
  for (const auto& session : all()) session->file().freeze();
}

}  // namespace voldfs::server
