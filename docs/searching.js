// Goes in front of the theme's search worker. The theme looks for each word of a question with anything behind it ("is"
// finds "isolation") and knows no forms of words ("steering" does not find "steer"). Words that say nothing are taken
// out of the question, and endings off, before the theme sees it.
(() => {
  const QUERY = 2; // the kind of message, as the theme numbers them
  const PLAIN = /^[a-z]{6,}$/;
  const ENDING = /(?:ings?|ions?|ed|es|s)$/;

  const shortened = (word) => (PLAIN.test(word) && !word.endsWith("ss") ? word.replace(ENDING, "") : word);

  const asked = (question) => {
    if (question.includes('"')) return question; // a phrase is meant as it stands
    const words = question.trim().split(/\s+/).map((word) => word.replace(/[?!,;]+$/, "")).filter(Boolean);
    const telling = words.filter((word) => lunr.stopWordFilter(word.toLowerCase()));
    return (telling.length ? telling : words).map(shortened).join(" ");
  };

  addEventListener("message", (event) => {
    if (event.data.type === QUERY) event.data.data = asked(event.data.data);
  });
})();
