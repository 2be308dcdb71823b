#include "brick/store/open_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cstring>

#include "brick/wire/status.h"

namespace voldfs::store {

namespace {

// Numbers start anywhere, so that a new open hardly ever takes one that is yet to be reclaimed.
uint32_t random_start() {
  uint32_t start = 1;
  if (::getrandom(&start, sizeof start, 0) != sizeof start) return 1;
  return start;
}

Result<std::vector<Id>> ids_in(int dir) {
  const int copy = ::openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return fail_errno();
  DIR* stream = ::fdopendir(copy);
  if (!stream) {
    ::close(copy);
    return fail_errno();
  }
  std::vector<Id> ids;
  errno = 0;
  while (const dirent* entry = ::readdir(stream)) {
    if (auto id = Id::parse(entry->d_name)) ids.push_back(*id);
    errno = 0;
  }
  const int error = errno;
  ::closedir(stream);
  if (error) return fail(error);
  return ids;
}

}  // namespace

OpenFiles::OpenFiles(int open_dir, bool grace) : open_dir_(open_dir), grace_(grace), next_number_(random_start()) {}

Result<void> OpenFiles::load() {
  auto ids = ids_in(open_dir_);
  if (!ids) return fail(ids.error());
  for (const Id& id : *ids) {
    struct stat attr;
    if (::fstatat(open_dir_, id.hex().c_str(), &attr, AT_SYMLINK_NOFOLLOW) < 0) return fail_errno();
    if (attr.st_nlink > 1) {  // it has got a name, and the brick was killed before it could say so here
      if (::unlinkat(open_dir_, id.hex().c_str(), 0) < 0) return fail_errno();
      continue;
    }
    set_nameless(id, true);
    remove_if_unused(id);
  }
  return {};
}

OpenFiles::NumberShard& OpenFiles::shard(const Key& key) const { return numbers_[KeyHash()(key) % kShards]; }
OpenFiles::ObjectShard& OpenFiles::shard(const Id& id) const { return objects_[IdHash()(id) % kShards]; }

Result<std::shared_ptr<OpenFile>> OpenFiles::insert(uint64_t session, const Id& id, unique_fd fd, int flags,
                                                    uint32_t wanted) {
  auto file = std::make_shared<OpenFile>();
  file->session = session, file->flags = flags, file->id = id, file->fd = std::move(fd);
  if (auto held = hold(id); !held) return fail(held.error());
  for (;;) {
    const uint32_t number = wanted ? wanted : next_number_.fetch_add(1, std::memory_order_relaxed);
    if (number == 0) continue;
    file->number = number;
    NumberShard& numbers = shard(Key{session, number});
    std::unique_lock lock(numbers.mutex);
    auto [at, fresh] = numbers.files.try_emplace(Key{session, number}, file);
    if (fresh) return file;
    if (!wanted) continue;
    auto known = at->second;
    lock.unlock();
    release(id);
    if (known->id != id) return fail(wire::kOpenUnknown);
    return known;
  }
}

std::shared_ptr<OpenFile> OpenFiles::find(uint64_t session, uint32_t number) const {
  const NumberShard& numbers = shard(Key{session, number});
  std::lock_guard lock(numbers.mutex);
  auto at = numbers.files.find(Key{session, number});
  return at == numbers.files.end() ? nullptr : at->second;
}

Result<std::shared_ptr<OpenFile>> OpenFiles::close(uint64_t session, uint32_t number) {
  NumberShard& numbers = shard(Key{session, number});
  std::shared_ptr<OpenFile> file;
  {
    std::lock_guard lock(numbers.mutex);
    auto at = numbers.files.find(Key{session, number});
    if (at == numbers.files.end()) return fail(wire::kOpenUnknown);
    file = std::move(at->second);
    numbers.files.erase(at);
  }
  release(file->id);
  return file;
}

std::vector<std::shared_ptr<OpenFile>> OpenFiles::close_session(uint64_t session) {
  std::vector<std::shared_ptr<OpenFile>> all;
  for (NumberShard& numbers : numbers_) {
    std::vector<std::shared_ptr<OpenFile>> closed;
    {
      std::lock_guard lock(numbers.mutex);
      for (auto at = numbers.files.begin(); at != numbers.files.end();) {
        if (at->first.session != session) {
          ++at;
          continue;
        }
        closed.push_back(std::move(at->second));
        at = numbers.files.erase(at);
      }
    }
    for (auto& file : closed) {
      release(file->id);
      all.push_back(std::move(file));
    }
  }
  return all;
}

Result<void> OpenFiles::hold(const Id& id) {
  ObjectShard& objects = shard(id);
  std::lock_guard lock(objects.mutex);
  Object& object = objects.objects[id];
  if (object.removing) return fail(wire::kStaleHandle);
  ++object.opens;
  return {};
}

void OpenFiles::release(const Id& id) {
  {
    ObjectShard& objects = shard(id);
    std::lock_guard lock(objects.mutex);
    auto at = objects.objects.find(id);
    if (at == objects.objects.end() || --at->second.opens > 0) return;
    if (!at->second.nameless) {
      objects.objects.erase(at);
      return;
    }
  }
  remove_if_unused(id);
}

void OpenFiles::remove_if_unused(const Id& id) {
  ObjectShard& objects = shard(id);
  {
    std::lock_guard lock(objects.mutex);
    auto at = objects.objects.find(id);
    if (at == objects.objects.end()) return;
    Object& object = at->second;
    if (object.opens > 0 || !object.nameless || object.removing || grace_) return;
    object.removing = true;
  }
  // Frees the file's blocks, which takes long for a large one: outside the lock.
  if (::unlinkat(open_dir_, id.hex().c_str(), 0) < 0 && errno != ENOENT) {
    spdlog::warn("event=open_unlinked_not_removed id={} error=\"{}\" (it goes at the next start)", id.hex(),
                 std::strerror(errno));
  }
  std::lock_guard lock(objects.mutex);
  objects.objects.erase(id);
  nameless_.fetch_sub(1);
}

bool OpenFiles::is_open(const Id& id) const {
  if (grace_) return true;
  const ObjectShard& objects = shard(id);
  std::lock_guard lock(objects.mutex);
  auto at = objects.objects.find(id);
  return at != objects.objects.end() && at->second.opens > 0;
}

bool OpenFiles::is_nameless(const Id& id) const {
  if (nameless_.load(std::memory_order_acquire) == 0) return false;
  const ObjectShard& objects = shard(id);
  std::lock_guard lock(objects.mutex);
  auto at = objects.objects.find(id);
  return at != objects.objects.end() && at->second.nameless;
}

Result<unique_fd> OpenFiles::open_nameless(const Id& id, int flags) const {
  const int fd = ::openat(open_dir_, id.hex().c_str(), (flags & O_ACCMODE) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0) return errno == ENOENT ? fail(wire::kStaleHandle) : fail_errno();
  return unique_fd(fd);
}

void OpenFiles::set_nameless(const Id& id, bool nameless) {
  ObjectShard& objects = shard(id);
  std::lock_guard lock(objects.mutex);
  auto at = objects.objects.try_emplace(id).first;
  if (at->second.nameless != nameless) nameless_.fetch_add(nameless ? 1 : -1);
  at->second.nameless = nameless;
  if (!nameless && at->second.opens == 0) objects.objects.erase(at);
}

Result<void> OpenFiles::keep(int dir, const char* name, const Id& id) {
  const std::string kept = id.hex();
  // rename(2) of one link of a file onto another of its links does nothing, hence NOREPLACE.
  if (::renameat2(dir, name, open_dir_, kept.c_str(), RENAME_NOREPLACE) < 0) {
    if (errno != EEXIST) return fail_errno();
    if (::unlinkat(dir, name, 0) < 0) return fail_errno();
  }
  set_nameless(id, true);
  remove_if_unused(id);  // its last close may have come in between
  return {};
}

Result<void> OpenFiles::keep_new(int fd, const Id& id) {
  if (::linkat(fd, "", open_dir_, id.hex().c_str(), AT_EMPTY_PATH) < 0) return fail_errno();
  set_nameless(id, true);
  return {};
}

Result<void> OpenFiles::named(const Id& id) {
  if (::unlinkat(open_dir_, id.hex().c_str(), 0) < 0 && errno != ENOENT) return fail_errno();
  set_nameless(id, false);
  return {};
}

void OpenFiles::end_grace() {
  grace_ = false;
  std::vector<Id> nameless;
  for (ObjectShard& objects : objects_) {
    std::lock_guard lock(objects.mutex);
    for (const auto& [id, object] : objects.objects) {
      if (object.nameless && object.opens == 0) nameless.push_back(id);
    }
  }
  for (const Id& id : nameless) remove_if_unused(id);
}

uint64_t OpenFiles::count() const {
  uint64_t sum = 0;
  for (const NumberShard& numbers : numbers_) {
    std::lock_guard lock(numbers.mutex);
    sum += numbers.files.size();
  }
  return sum;
}

uint64_t OpenFiles::nameless_count() const { return nameless_; }

}  // namespace voldfs::store
