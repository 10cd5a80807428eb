// .npy files: what is written reads back, every form of the header is understood, and a file that lies about itself is refused
// with words that say why, before memory is taken for what it claims. Files that have to appear whole or not at all do.
#include "npy.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

namespace fs = std::filesystem;

// An empty folder, gone with all that is in it at the end of the test.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "simdnorm-npy-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  int Files() const { return static_cast<int>(std::distance(fs::directory_iterator(path_), fs::directory_iterator())); }

 private:
  fs::path path_;
};

std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Spill(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

std::string LittleEndian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

// A file as another program may write it: no padding, and `header` as it stands.
std::string File(int version, const std::string& header, const std::string& data) {
  return "\x93NUMPY" + LittleEndian(static_cast<uint64_t>(version), 2) + LittleEndian(header.size(), version == 1 ? 2 : 4) +
         header + data;
}

std::string Header(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }\n";
}

std::string F32Data(const std::vector<float>& values) {
  std::string out;
  for (const float value : values) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    out += LittleEndian(bits, 4);
  }
  return out;
}

npy::Array MakeF32(const npy::Shape& shape, float first = 0) {
  npy::Array array = *npy::Array::Make(npy::Dtype::kF32, shape);
  for (int64_t i = 0; i < array.count(); ++i) array.f32()[i] = first + 0.25f * static_cast<float>(i);
  return array;
}

std::vector<float> Values(const npy::Array& array) { return {array.f32(), array.f32() + array.count()}; }

// Reads `bytes` as a file and checks that it is refused with all of `words`, the file's name among them.
void CheckRefused(const std::string& bytes, std::initializer_list<const char*> words) {
  const Folder folder;
  Spill(folder / "bad.npy", bytes);
  std::string error;
  CHECK_FALSE(npy::Read(folder / "bad.npy", &error));
  CAPTURE(error);
  CHECK(error.rfind(folder / "bad.npy" + ": ", 0) == 0);
  for (const char* word : words) {
    CAPTURE(word);
    CHECK(error.find(word) != std::string::npos);
  }
}

void CheckReads(const std::string& bytes, const npy::Shape& shape, const std::vector<float>& values) {
  const Folder folder;
  Spill(folder / "a.npy", bytes);
  std::string error;
  const auto array = npy::Read(folder / "a.npy", &error);
  CAPTURE(error);
  REQUIRE(array);
  CHECK(array->shape == shape);
  CHECK(Values(*array) == values);
}

TEST_CASE("what is written reads back, for any rank") {
  for (const npy::Shape& shape : {npy::Shape{}, {5}, {1}, {3, 4}, {2, 3, 4, 5}, {0}, {4, 0, 3}, npy::Shape(32, 1)}) {
    CAPTURE(npy::ToString(shape));
    const Folder folder;
    const npy::Array array = MakeF32(shape, -3);
    std::string error;
    {
      npy::Outputs outputs;
      REQUIRE(outputs.Add(folder / "a.npy", array, &error));
      REQUIRE(outputs.Commit(&error));
    }
    CHECK(folder.Files() == 1);
    const auto back = npy::Read(folder / "a.npy", &error);
    CAPTURE(error);
    REQUIRE(back);
    CHECK(back->dtype == npy::Dtype::kF32);
    CHECK(back->shape == shape);
    CHECK(Values(*back) == Values(array));
  }
}

TEST_CASE("the written bytes are the format's") {
  const Folder folder;
  std::string error;
  npy::Outputs outputs;
  REQUIRE(outputs.Add(folder / "a.npy", MakeF32({2, 1}, 1), &error));
  REQUIRE(outputs.Commit(&error));
  const std::string bytes = Slurp(folder / "a.npy");
  const std::string literal = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }";
  REQUIRE(bytes.size() == 128 + 8);
  CHECK(bytes.substr(0, 10) == "\x93NUMPY\x01" + std::string(1, '\0') + LittleEndian(118, 2));
  CHECK(bytes.substr(10, literal.size()) == literal);
  CHECK(bytes.substr(10 + literal.size(), 128 - 10 - literal.size()) == std::string(128 - 11 - literal.size(), ' ') + "\n");
  CHECK(bytes.substr(128) == F32Data({1, 1.25f}));
}

struct DtypeCase {
  const char* descr;
  npy::Dtype dtype;
  int size;
  const char* written;  // in the header of a file that is written
};

// `|V2` is how ml_dtypes' bfloat16 is saved, and comes with a byte order from some versions of NumPy.
const DtypeCase kDtypes[] = {
    {"<f2", npy::Dtype::kF16, 2, "<f2"}, {"<f4", npy::Dtype::kF32, 4, "<f4"}, {"<f8", npy::Dtype::kF64, 8, "<f8"},
    {"|i1", npy::Dtype::kI8, 1, "|i1"},  {"<i1", npy::Dtype::kI8, 1, "|i1"},  {"|u1", npy::Dtype::kU8, 1, "|u1"},
    {"<u2", npy::Dtype::kU16, 2, "<u2"}, {"|V2", npy::Dtype::kU16, 2, "<u2"}, {"<V2", npy::Dtype::kU16, 2, "<u2"},
    {"<i4", npy::Dtype::kI32, 4, "<i4"}, {"<i8", npy::Dtype::kI64, 8, "<i8"}, {"|b1", npy::Dtype::kBool, 1, "|b1"},
    {">f2", npy::Dtype::kF16, 2, "<f2"}, {">f8", npy::Dtype::kF64, 8, "<f8"}, {">u2", npy::Dtype::kU16, 2, "<u2"},
    {">i4", npy::Dtype::kI32, 4, "<i4"}, {">i8", npy::Dtype::kI64, 8, "<i8"},
};

TEST_CASE("every dtype, in both byte orders and both orders of axes") {
  for (const DtypeCase& c : kDtypes) {
    CAPTURE(c.descr);
    // Element e has the bytes 16 e, 16 e + 1, ...
    const auto data = [&](const std::vector<int>& order, bool swap) {
      std::string bytes;
      for (const int element : order) {
        for (int i = 0; i < c.size; ++i) bytes += static_cast<char>(16 * element + (swap ? c.size - 1 - i : i));
      }
      return bytes;
    };
    const bool swap = c.descr[0] == '>';
    for (const bool fortran : {false, true}) {
      const Folder folder;
      const std::vector<int> stored = fortran ? std::vector<int>{0, 3, 1, 4, 2, 5} : std::vector<int>{0, 1, 2, 3, 4, 5};
      Spill(folder / "a.npy", File(1, Header(c.descr, fortran ? "True" : "False", "(2, 3)"), data(stored, swap)));
      std::string error;
      const auto array = npy::Read(folder / "a.npy", &error);
      CAPTURE(error);
      REQUIRE(array);
      const std::string native = data({0, 1, 2, 3, 4, 5}, false);
      CHECK(array->dtype == c.dtype);
      CHECK(array->bytes() == static_cast<int64_t>(native.size()));
      CHECK(std::string(array->as<char>(), native.size()) == native);

      npy::Outputs outputs;
      REQUIRE(outputs.Add(folder / "b.npy", *array, &error));
      REQUIRE(outputs.Commit(&error));
      const std::string written = Slurp(folder / "b.npy"), header = std::string("{'descr': '") + c.written + "', ";
      CHECK(written.substr(10, header.size()) == header);
      CHECK(written.substr(written.size() - native.size()) == native);
    }
  }
}

TEST_CASE("an array of more bytes than there are is none") {
  CHECK_FALSE(npy::Array::Make(npy::Dtype::kF32, {int64_t{1} << 62}));
  CHECK_FALSE(npy::Array::Make(npy::Dtype::kU8, {int64_t{1} << 40, int64_t{1} << 40}));
}

TEST_CASE("versions 1, 2 and 3") {
  for (const int version : {1, 2, 3}) CheckReads(File(version, Header("<f4", "False", "(2,)"), F32Data({1, -2})), {2}, {1, -2});
}

TEST_CASE("headers that other programs write") {
  const std::string data = F32Data({1, 2, 3, 4, 5, 6});
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  CheckReads(File(1, "{\"shape\":(2,3),\"descr\":\"<f4\",\"fortran_order\":False}", data), {2, 3}, values);
  CheckReads(File(1, "  { 'fortran_order' :False ,'descr': '<f4', 'shape': ( 6 , ) }   \n", data), {6}, values);
  CheckReads(File(1, Header("<f4", "False", "(2L, 3L)"), data), {2, 3}, values);
  CheckReads(File(1, Header("f4", "False", "(3, 2,)"), data), {3, 2}, values);
  CheckReads(File(1, Header("<f4", "False", "()"), F32Data({7})), {}, {7});
}

TEST_CASE("Fortran order becomes C order") {
  CheckReads(File(1, Header("<f4", "True", "(2, 3)"), F32Data({0, 10, 1, 11, 2, 12})), {2, 3}, {0, 1, 2, 10, 11, 12});
  // Element (i, j, k, l) holds 1000 i + 100 j + 10 k + l; the first index runs fastest in the file.
  std::vector<float> file, c_order;
  for (int l = 0; l < 2; ++l)
    for (int k = 0; k < 4; ++k)
      for (int j = 0; j < 1; ++j)
        for (int i = 0; i < 3; ++i) file.push_back(static_cast<float>(1000 * i + 100 * j + 10 * k + l));
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 1; ++j)
      for (int k = 0; k < 4; ++k)
        for (int l = 0; l < 2; ++l) c_order.push_back(static_cast<float>(1000 * i + 100 * j + 10 * k + l));
  CheckReads(File(1, Header("<f4", "True", "(3, 1, 4, 2)"), F32Data(file)), {3, 1, 4, 2}, c_order);
  CheckReads(File(1, Header("<f4", "True", "(2,)"), F32Data({1, 2})), {2}, {1, 2});
  CheckReads(File(1, Header("<f4", "True", "()"), F32Data({1})), {}, {1});
  CheckReads(File(1, Header("<f4", "True", "(2, 0, 3)"), ""), {2, 0, 3}, {});
}

TEST_CASE("big-endian becomes native") {
  const std::string one_and_half("\x3f\xc0\0\0", 4), minus_two("\xc0\0\0\0", 4);
  CheckReads(File(1, Header(">f4", "False", "(2,)"), one_and_half + minus_two), {2}, {1.5f, -2});
  const std::string both = one_and_half + minus_two + minus_two + one_and_half;
  CheckReads(File(1, Header(">f4", "True", "(2, 2)"), both), {2, 2}, {1.5f, -2, -2, 1.5f});
}

TEST_CASE("a file that is not there, or a folder") {
  const Folder folder;
  std::string error;
  CHECK_FALSE(npy::Read(folder / "none.npy", &error));
  CHECK(error == folder / "none.npy" + ": cannot be opened: No such file or directory");
  CHECK_FALSE(npy::Read(folder / ".", &error));
  CHECK(error.find("is a folder") != std::string::npos);
}

TEST_CASE("no .npy file") {
  CheckRefused("", {"empty"});
  CheckRefused("PK\x03\x04 this is something else", {"no .npy file"});
  CheckRefused("\x93NUM", {"no .npy file"});
}

TEST_CASE("an unknown version") {
  CheckRefused(File(4, Header("<f4", "False", "(1,)"), F32Data({1})), {"version 4.0"});
  CheckRefused("\x93NUMPY\x01\x01" + std::string(100, ' '), {"version 1.1"});
}

TEST_CASE("truncated at any byte") {
  const std::string whole = File(2, Header("<f4", "False", "(2, 3)"), F32Data({1, 2, 3, 4, 5, 6}));
  for (size_t size = 6; size < whole.size(); ++size) CheckRefused(whole.substr(0, size), {"truncated"});
  CheckRefused(whole.substr(0, whole.size() - 1), {"shape (2, 3)", "24 bytes", "has 23"});
}

TEST_CASE("more data than the shape says") {
  CheckRefused(File(1, Header("<f4", "False", "(2,)"), F32Data({1, 2}) + "x"), {"goes on", "(2,)"});
}

TEST_CASE("a header that claims gigabytes") {
  CheckRefused("\x93NUMPY\x02" + std::string(1, '\0') + "\xff\xff\xff\xff{'descr': ", {"header of 4294967295 bytes"});
}

TEST_CASE("data that claims gigabytes") {
  CheckRefused(File(1, Header("<f4", "False", "(5000000000,)"), "x"), {"truncated", "20000000000 bytes", "has 1"});
}

TEST_CASE("a file that shrinks or grows while it is read") {
  const Folder folder;
  const std::string path = folder / "a.npy", header = Header("<f4", "False", "(6, 1048576)");
  const std::string whole = File(1, header, std::string(6 << 22, 'x'));
  const int64_t before = static_cast<int64_t>(whole.size()) - (6 << 22);
  const auto read_while = [&](int64_t size_then) {
    Spill(path, whole);
    std::string error;
    CHECK_FALSE(npy::Read(path, &error, [&](int64_t done, int64_t total) {
      CHECK(done < total);
      return truncate(path.c_str(), before + size_then) == 0;
    }));
    return error;
  };
  const std::string shape = "shape (6, 1048576) takes 25165824 bytes of data, the file has ";
  CHECK(read_while((2 << 22) + 5) == path + ": is truncated: " + shape + "8388613");
  CHECK(read_while(0) == path + ": is truncated: " + shape + "8388608");  // what was read before it shrank
  std::string error;
  Spill(path, whole);
  CHECK_FALSE(npy::Read(path, &error, [&](int64_t, int64_t) {
    std::ofstream(path, std::ios::binary | std::ios::app) << "more";
    return true;
  }));
  CHECK(error.find("goes on after the 25165824 bytes") != std::string::npos);
}

TEST_CASE("a pipe that claims gigabytes gets memory for what it sends") {
  const Folder folder;
  const std::string path = folder / "pipe";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  std::thread writer([&] { Spill(path, File(1, Header("<f4", "False", "(1000000000000000,)"), F32Data({1, 2, 3}))); });
  std::string error;
  const auto array = npy::Read(path, &error);
  writer.join();
  CHECK_FALSE(array);
  CHECK(error.find("truncated") != std::string::npos);
  CHECK(error.find("has 12") != std::string::npos);
}

TEST_CASE("a pipe reads like a file") {
  const Folder folder;
  const std::string path = folder / "pipe";
  REQUIRE(mkfifo(path.c_str(), 0600) == 0);
  const std::vector<float> values(5 << 20, 0.5f);  // more than one slice of reading
  std::thread writer([&] { Spill(path, File(1, Header("<f4", "False", "(5, 1048576)"), F32Data(values))); });
  std::string error;
  const auto array = npy::Read(path, &error);
  writer.join();
  CAPTURE(error);
  REQUIRE(array);
  CHECK((Values(*array) == values));
}

TEST_CASE("sizes whose product overflows") {
  CheckRefused(File(1, Header("<f4", "False", "(4294967296, 4294967296)"), ""), {"more bytes than 64 bits"});
  CheckRefused(File(1, Header("<f4", "False", "(4611686018427387904,)"), ""), {"more bytes than 64 bits"});
  CheckRefused(File(1, Header("<f4", "False", "(0, 4294967296, 4294967296)"), ""), {"more bytes than 64 bits"});
  CheckRefused(File(1, Header("<f4", "False", "(99999999999999999999,)"), ""), {"beyond 64 bits"});
}

TEST_CASE("sizes that are none") {
  CheckRefused(File(1, Header("<f4", "False", "(-1,)"), ""), {"negative size"});
  CheckRefused(File(1, Header("<f4", "False", "(2)"), F32Data({1, 2})), {"not a tuple"});
  CheckRefused(File(1, Header("<f4", "False", "2"), F32Data({1, 2})), {"no tuple"});
  CheckRefused(File(1, Header("<f4", "False", "(2 3)"), ""), {"no ','"});
  CheckRefused(File(1, Header("<f4", "False", "(,)"), ""), {"other than sizes"});
  CheckRefused(File(1, Header("<f4", "False", "(1.5,)"), ""), {"no ','"});
  std::string many;
  for (int i = 0; i < 65; ++i) many += "1, ";
  CheckRefused(File(1, Header("<f4", "False", "(" + many + ")"), F32Data({1})), {"more than 64 dimensions"});
}

TEST_CASE("the wrong dtype") {
  CheckRefused(File(1, Header("<u4", "False", "(1,)"), F32Data({1})), {"'<u4'", "float32", "bool"});
  CheckRefused(File(1, Header("|V1", "False", "(1,)"), "x"), {"'|V1'"});
  CheckRefused(File(1, Header("<f", "False", "(1,)"), "x"), {"'<f'"});
  CheckRefused(File(1, Header("|O", "False", "(1,)"), "x"), {"'|O'"});
  CheckRefused(File(1, Header("", "False", "(1,)"), "x"), {"''"});
  CheckRefused(File(1, Header("\x1b[2J" + std::string(500, 'a'), "False", "(1,)"), "x"), {"'?[2Jaaa", "...'"});
  CheckRefused(File(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", F32Data({1})), {"records"});
}

TEST_CASE("a header of garbage") {
  const std::string data = F32Data({1});
  CheckRefused(File(1, "", data), {"bad header", "no '{'"});
  CheckRefused(File(1, std::string(64, '\0'), data), {"no '{'"});
  CheckRefused(File(1, "{", data), {"bad header"});
  CheckRefused(File(1, "{}", data), {"missing"});
  CheckRefused(File(1, "{'descr': '<f4', 'fortran_order': False}", data), {"missing"});
  CheckRefused(File(1, "{'descr' '<f4'}", data), {"no ':'"});
  CheckRefused(File(1, "{'descr': '<f4}", data), {"no quoted string"});
  CheckRefused(File(1, "{'descr': '<f4' 'shape': (1,)}", data), {"no ',' or '}'"});
  CheckRefused(File(1, "{'descr': '<f4', 'descr': '<f4'}", data), {"unknown or repeated"});
  CheckRefused(File(1, "{'name': 'x'}", data), {"unknown or repeated"});
  CheckRefused(File(1, Header("<f4", "0", "(1,)"), data), {"neither True nor False"});
  CheckRefused(File(1, Header("<f4", "False", "(1,)") + "{}", data), {"after the '}'"});
}

TEST_CASE("a header that nests deeply") {
  for (const char* bracket : {"(", "[", "{"}) {
    std::string deep;
    for (int i = 0; i < 60000; ++i) deep += bracket;
    CheckRefused(File(1, deep, ""), {"bad header"});
    CheckRefused(File(1, Header("<f4", "False", deep), ""), {"'shape'"});
  }
}

TEST_CASE("every byte of a header changed gives an array or an error, never more") {
  const std::string whole = File(1, Header("<f4", "True", "(2, 3)"), F32Data({1, 2, 3, 4, 5, 6}));
  const Folder folder;
  for (size_t at = 6; at < whole.size() - 24; ++at) {
    for (const int change : {1, 2, 4, 16, 64, 128}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ change);
      Spill(folder / "a.npy", bytes);
      std::string error;
      const auto array = npy::Read(folder / "a.npy", &error);
      CHECK(array.has_value() == error.empty());
      if (array) CHECK(array->bytes() == 24);
    }
  }
}

TEST_CASE("outputs appear together or not at all") {
  const Folder folder;
  Spill(folder / "old.npy", "before");
  std::string error;
  {
    npy::Outputs outputs;
    REQUIRE(outputs.Add(folder / "old.npy", MakeF32({4}), &error));
    REQUIRE(outputs.Add(folder / "new.npy", MakeF32({4}), &error));
    CHECK_FALSE(outputs.Add(folder / "none/a.npy", MakeF32({4}), &error));
    CHECK(error.find("none/a.npy: cannot be created: No such file") != std::string::npos);
  }
  CHECK(Slurp(folder / "old.npy") == "before");
  CHECK(folder.Files() == 1);
}

TEST_CASE("an output that cannot be replaced in the end undoes the others") {
  const Folder folder;
  Spill(folder / "old.npy", "before");
  std::string error;
  {
    npy::Outputs outputs;
    REQUIRE(outputs.Add(folder / "old.npy", MakeF32({4}), &error));
    REQUIRE(outputs.Add(folder / "new.npy", MakeF32({4}), &error));
    REQUIRE(outputs.Add(folder / "taken.npy", MakeF32({4}), &error));
    REQUIRE(outputs.Add(folder / "never.npy", MakeF32({4}), &error));
    REQUIRE(mkdir((folder / "taken.npy").c_str(), 0700) == 0);  // by somebody else, meanwhile
    CHECK_FALSE(outputs.Commit(&error));
  }
  CHECK(error.find("taken.npy: cannot be replaced: Is a directory") != std::string::npos);
  CHECK(Slurp(folder / "old.npy") == "before");
  CHECK(folder.Files() == 2);  // old.npy and the folder
}

TEST_CASE("several outputs replace what was there and leave nothing else") {
  const Folder folder;
  Spill(folder / "a.npy", "before");
  Spill(folder / "b.npy", "before");
  std::string error;
  npy::Outputs outputs;
  for (const char* name : {"a.npy", "b.npy", "c.npy"}) REQUIRE(outputs.Add(folder / name, MakeF32({4}, 1), &error));
  REQUIRE(outputs.Commit(&error));
  for (const char* name : {"a.npy", "b.npy", "c.npy"}) CHECK(npy::Read(folder / name, &error)->f32()[0] == 1);
  CHECK(folder.Files() == 3);
}

TEST_CASE("an interrupted write leaves nothing") {
  const Folder folder;
  std::string error;
  {
    npy::Outputs outputs;
    CHECK_FALSE(outputs.Add(folder / "a.npy", MakeF32({5 << 20}), &error, [](int64_t done, int64_t total) {
      CHECK(done < total);
      return false;
    }));
  }
  CHECK(error.find("interrupted") != std::string::npos);
  CHECK(folder.Files() == 0);
}

TEST_CASE("one file for two outputs is refused") {
  const Folder folder;
  REQUIRE(symlink("a.npy", (folder / "link.npy").c_str()) == 0);
  std::string error;
  npy::Outputs outputs;
  REQUIRE(outputs.Add(folder / "a.npy", MakeF32({1}), &error));
  CHECK_FALSE(outputs.Add(folder / "./a.npy", MakeF32({1}), &error));
  CHECK(error.find("two outputs") != std::string::npos);
  CHECK_FALSE(outputs.Add(folder / "link.npy", MakeF32({1}), &error));
}

TEST_CASE("a link is followed, and stays a link") {
  const Folder folder;
  REQUIRE(mkdir((folder / "sub").c_str(), 0700) == 0);
  REQUIRE(symlink("sub/real.npy", (folder / "link.npy").c_str()) == 0);
  for (int round = 0; round < 2; ++round) {  // first to a file that is not there yet
    std::string error;
    npy::Outputs outputs;
    REQUIRE(outputs.Add(folder / "link.npy", MakeF32({3}, static_cast<float>(round)), &error));
    REQUIRE(outputs.Commit(&error));
    CHECK(fs::is_symlink(folder / "link.npy"));
    CHECK(fs::is_regular_file(folder / "sub/real.npy"));
    CHECK(npy::Read(folder / "sub/real.npy", &error)->f32()[0] == static_cast<float>(round));
  }
}

TEST_CASE("a replaced file keeps its permissions, a new one gets the usual ones") {
  const Folder folder;
  Spill(folder / "old.npy", "before");
  REQUIRE(chmod((folder / "old.npy").c_str(), 04604) == 0);
  const mode_t mask = umask(022);
  std::string error;
  npy::Outputs outputs;
  REQUIRE(outputs.Add(folder / "old.npy", MakeF32({1}), &error));
  REQUIRE(outputs.Add(folder / "new.npy", MakeF32({1}), &error));
  REQUIRE(outputs.Commit(&error));
  umask(mask);
  struct stat status;
  REQUIRE(stat((folder / "old.npy").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0604);  // but for set-user-ID, which would be another user's
  REQUIRE(stat((folder / "new.npy").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0644);
}

TEST_CASE("devices are written to, folders are refused, a full disk is an error") {
  const Folder folder;
  std::string error;
  npy::Outputs outputs;
  CHECK(outputs.Add("/dev/null", MakeF32({3}), &error));
  CHECK_FALSE(outputs.Add("/dev/full", MakeF32({3}), &error));
  CHECK(error == "/dev/full: cannot be written: No space left on device");
  CHECK_FALSE(outputs.Add(folder / ".", MakeF32({3}), &error));
  CHECK(error.find("is a folder") != std::string::npos);
  CHECK_FALSE(outputs.Add("", MakeF32({3}), &error));
  REQUIRE(outputs.Commit(&error));
  CHECK(folder.Files() == 0);
  CHECK(fs::is_character_file("/dev/null"));
}

}  // namespace
