// Runs a fuzzer's entry point without libFuzzer: over every file of a corpus, every prefix of it, and a fixed
// number of mutations from a fixed seed, so that each run tries the same inputs. It finds no new paths; it keeps
// the old findings found, also where there is no clang.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr uint32_t kSeed = 1;
constexpr int kMutationsPerFile = 2000;
constexpr int kEditsMax = 4;
constexpr size_t kPrefixesMax = 4096;

using Bytes = std::vector<uint8_t>;

// A copy of its own for each run: a read past the end is then past a heap block's end, which the address
// sanitizer sees.
void run(const uint8_t* data, size_t size) {
  Bytes copy(data, data + size);
  copy.shrink_to_fit();
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

// Overwrites a byte, flips a bit, or sets a byte to an extreme, as lengths and counts have them.
void edit(Bytes& bytes, std::mt19937& random) {
  uint8_t& byte = bytes[random() % bytes.size()];
  switch (random() % 4) {
    case 0: byte = static_cast<uint8_t>(random()); break;
    case 1: byte = static_cast<uint8_t>(byte ^ (1u << (random() % 8))); break;
    case 2: byte = 0xff; break;
    default: byte = 0; break;
  }
}

void replay(const Bytes& input, std::mt19937& random) {
  run(input.data(), input.size());
  for (size_t size = 0; size < input.size() && size < kPrefixesMax; ++size) run(input.data(), size);
  if (input.empty()) return;
  for (int i = 0; i < kMutationsPerFile; ++i) {
    Bytes mutated = input;
    for (int edits = 1 + static_cast<int>(random() % kEditsMax); edits > 0; --edits) edit(mutated, random);
    run(mutated.data(), mutated.size());
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 || !std::filesystem::is_directory(argv[1])) {
    std::fprintf(stderr, "usage: %s CORPUS_DIRECTORY (tests/fuzz/corpus/NAME)\n", argv[0]);
    return EXIT_FAILURE;
  }
  std::mt19937 random(kSeed);
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    if (!entry.is_regular_file()) continue;
    std::ifstream file(entry.path(), std::ios::binary);
    Bytes input{std::istreambuf_iterator<char>(file), {}};
    std::printf("%s: %zu bytes\n", entry.path().c_str(), input.size());
    std::fflush(stdout);
    replay(input, random);
    ++files;
  }
  if (files == 0) {
    std::fprintf(stderr, "%s holds no input\n", argv[1]);
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
