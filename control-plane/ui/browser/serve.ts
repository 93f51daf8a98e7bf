/** `npm run fake -- large`: the page with generated documents, for whoever changes how it looks. */

import { large, shop } from "./documents";
import { fake } from "./fake";

const isLarge = process.argv.includes("large");
const { url } = await fake(isLarge ? large(500, 3000) : shop(), {
  isNew: !process.argv.includes("old"),
  port: 7480,
});
console.log(`${url} (any token signs in)`);
